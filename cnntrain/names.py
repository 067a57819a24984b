"""How names from outside (of files, classes, runs, keys) are shown: so that they cannot do anything to a terminal."""


def printable(name: object) -> str:
    r"""A name as it can be shown anywhere.

    Control characters, line ends, terminal escapes, marks that turn the direction of writing and bytes that are no
    UTF-8 are written out, such as `\n`, `\x1b`, `\u202e` and `\udcff`; all else stays, in any script.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(name)
    )
