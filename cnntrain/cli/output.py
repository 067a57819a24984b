"""All that commands print. Names from outside may be in any line: none of them acts on a terminal, or begins a line."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from cnntrain.names import printable, printable_lines


def show(*lines: str) -> None:
    """Prints a result."""
    print("\n".join(map(printable, lines)))


def show_json(values: Any) -> None:
    """Prints a result for programs, in which names are what they are."""
    from cnntrain.records.files import to_json

    print(to_json(values))


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
            raise io.UnsupportedOperation
        return getattr(self._stream, name)
