"""All that commands print. Names from outside may be in any line: none of them acts on a terminal, or begins a line."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from cnntrain.runtime.names import printable, printable_lines


def show(*lines: str) -> None:
    """Prints a result."""
    print("\n".join(map(printable, lines)))


def show_json(values: Any) -> None:
    """Prints a result for programs, in which names are what they are."""
    from cnntrain.runs.files import to_json

    print(to_json(values))


def show_json_list(items: Iterable[Any]) -> None:
    """Prints a list for programs, item by item as they come, in the same letters as `show_json`."""
    from cnntrain.runs.files import to_json

    before = "["
    for item in items:
        print(before + to_json([item]).removeprefix("[").removesuffix("\n]"), end="")
        before = ","
    print("[]" if before == "[" else "\n]")


def complain(*lines: str) -> None:
    """Prints what went wrong, or may, on stderr."""
    print("\n".join(map(printable, lines)), file=sys.stderr)


@contextmanager
def harmless_output() -> Iterator[None]:
    """Makes stdout and stderr such that what others print (libraries, tracebacks) does not act on a terminal either."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Harmless(stream) for stream in before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def no_output() -> Iterator[None]:
    """Drops what is printed, by libraries too, save what goes to `complain`: of several processes one speaks."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Leaves out what libraries in C write to stderr on their own.

    libtiff says something of each line of a damaged image, with which those who send images could fill a disk.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    before = sys.stderr
    with open(kept, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as own:  # noqa: PTH123 (a number)
        try:
            is_of_system = before is not None and before.fileno() == 2
        except (OSError, ValueError):  # kept in memory
            is_of_system = False
        if is_of_system:
            sys.stderr = _Harmless(own)  # type: ignore[assignment]
        try:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            sys.stderr = before


class _Harmless:
    """A text stream that lets only line ends, and the carriage return that progress bars begin with, act."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        bar = text[:1] == "\r" and self._stream.isatty()
        self._stream.write("\r" + printable_lines(text[1:]) if bar else printable_lines(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # through which bytes would get out as they are
            raise AttributeError(name)
        return getattr(self._stream, name)
