"""stdin, stdout and stderr, whatever the shell has made of them."""

import contextlib
import io
import os
import sys
from typing import Any, TextIO

from cnntrain.errors import StorageError


class Results(io.FileIO):
    """Bytes for stdout. Once nobody reads them any more, as after `| head -1`, they go nowhere.

    Attributes:
        is_read: Whether somebody may be reading still.
    """

    is_read = True

    def write(self, data: Any) -> int:
        """Writes what it can.

        Raises:
            StorageError: The disk behind it is full, say.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            self.is_read = False
            return len(data)
        except OSError as error:
            raise StorageError(f"the results cannot be written to stdout: {error.strerror}") from error


class Progress(io.FileIO):
    """Bytes for stderr: a training does not end because its progress cannot be shown."""

    def write(self, data: Any) -> int:
        """Writes, or drops them."""
        with contextlib.suppress(OSError):
            return super().write(data) or len(data)  # a terminal that takes nothing at the moment says None
        return len(data)


def reopen_closed() -> None:
    """Makes a stream that is closed (`>&-`) /dev/null: the next file would take its number, and what is printed."""
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free, which is this


def open_streams(stderr: int = 2) -> None:
    """Makes stdin, stdout and stderr of Python such as the rest of cnntrain expects.

    Args:
        stderr: The descriptor to write progress to.
    """
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 (open until the process ends)
    results = Results(1, "w", closefd=False)
    sys.stdout = _text(results, sys.stdout)
    sys.stdout.results = results  # type: ignore[attr-defined]  # for `is_read`
    sys.stderr = _text(Progress(stderr, "w", closefd=False), sys.stderr, line_buffering=True)


def is_read(stream: Any) -> bool:
    """Whether somebody reads what is written to stdout, as far as this is known."""
    return bool(getattr(getattr(stream, "results", None), "is_read", True))


def _text(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """A stream of text over raw bytes, buffered as it was before.

    A file name may hold what the terminal's encoding lacks; it is shown escaped.
    """
    if os.name == "nt" and before:  # whose terminals take text, not bytes
        before.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
        return before
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
        write_through=getattr(before, "write_through", False),  # as PYTHONUNBUFFERED asks for
    )
