"""How names from outside (of files, classes, runs, keys) are shown: so that they cannot do anything to a terminal."""

from collections.abc import Sequence


def printable(name: object) -> str:
    r"""A name as it can be shown anywhere.

    Control characters, line ends, terminal escapes, marks that turn the direction of writing and bytes that are no
    UTF-8 are written out, such as `\n`, `\x1b`, `\u202e` and `\udcff`; all else stays, in any script.
    """
    text = str(name)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def printable_lines(text: str) -> str:
    """A text of several lines, each of them as `printable` has it; names in it went through `printable` before."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(name: object, most: int = 100) -> str:
    """A name as it can be shown in a table: as `printable` has it, without its middle where it is too long.

    Args:
        name: Whose beginning and end tell it from others.
        most: Letters that are left.
    """
    text = printable(name)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def quoted(names: Sequence[str], most: int = 8) -> str:
    """Some names in quotes, as `"cat", "dog" and 3 more`: so that a name with a space or none at all can be told."""
    shown = ", ".join(f'"{shortened(name)}"' for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
