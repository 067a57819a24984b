"""The ways in which a user's mistake, or their machine, can stop cnntrain.

Each kind has an exit code. The command line prints the message alone, without a traceback.
"""

from collections.abc import Iterable, Sequence

from cnntrain.runtime.names import printable, shortened

LONGEST_LINE = 4000  # of a message: with names of files and classes as long as may be, a screen or two


def notebook_lines(error: BaseException) -> list[str]:
    """An error as it is shown in a notebook: without a traceback, with its notes, which IPython would leave out."""
    return [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]


def describe_bug(error: BaseException) -> str:
    """What is said of an error that is no user's mistake."""
    return f"a bug of cnntrain: {type(error).__name__}: {error}".removesuffix(": ")


class CnntrainError(Exception):
    """Something the user can put right. The message says what, where and what to do next.

    Whatever names are put in, it has as many lines as it is given, and nothing in it acts on a terminal.

    Args:
        message: What is wrong, what was found, what is allowed, on one line.
        key: The dotted configuration key concerned, such as `data.image_size`. Whoever knows
            the file adds its name and line (see `cnntrain.config.loading.locate`).
        more: Lines below it.
    """

    exit_code = 1

    def __init__(self, message: str, key: str | None = None, *, more: Iterable[str] = ()) -> None:
        self.lines = [shortened(line, LONGEST_LINE) for line in (message, *more)]
        super().__init__("\n".join(self.lines))
        self.key = key

    def add_note(self, note: str) -> None:
        """Adds a line that is printed below the message."""
        super().add_note(printable(note))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows; IPython asks for it by this name."""
        return notebook_lines(self)


class ConfigError(CnntrainError):
    """A wrong configuration or a wrong use of a command."""

    exit_code = 2


class DataError(CnntrainError):
    """Images or labels that are missing, unreadable or unusable."""

    exit_code = 3


class CheckpointError(CnntrainError):
    """A run or a checkpoint that is missing, damaged or does not fit."""

    exit_code = 4


class DeviceError(CnntrainError):
    """A device that this machine does not have, or that has too little memory."""

    exit_code = 5


class NumericalError(CnntrainError):
    """A loss that is no longer a finite number."""

    exit_code = 6


class StorageError(CnntrainError):
    """A folder or file that cannot be written."""

    exit_code = 7


class ReproductionError(CnntrainError):
    """A test result outside the band that its configuration states."""

    exit_code = 8


class Interrupted(CnntrainError):
    """Ctrl-C (130), or a signal that asks to stop (75)."""

    exit_code = 130


class OtherProcessError(CnntrainError):
    """What went wrong in another of the processes that work together, or that one of them is gone.

    Args:
        lines: The message.
        exit_code: With which all of them end.
        quiet: Whether it is another process that prints it.
    """

    exit_code = 5

    def __init__(self, lines: Sequence[str], exit_code: int, *, quiet: bool) -> None:
        super().__init__(lines[0], more=lines[1:])
        self.exit_code = exit_code
        self.is_quiet = quiet
