"""The command line: runs what its arguments say, and explains what goes wrong with an exit code."""

import os
import shlex
import sys
import time
import traceback

from cnntrain import __version__
from cnntrain.cli.commands import app
from cnntrain.cli.completing import COMPLETION, completion_for
from cnntrain.cli.output import complain, harmless_output
from cnntrain.errors import CnntrainError, DeviceError, Interrupted, OtherProcessError, StorageError
from cnntrain.runtime.exhaustion import describe_limit, memory_limit
from cnntrain.runtime.names import printable_lines

# How libraries that cannot be loaded say that there is no memory.
_NO_MEMORY = ("failed to map segment", "Cannot allocate memory", "cannot allocate memory", "MemoryError")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    if COMPLETION in os.environ:  # whose lines are for the shell
        return _main(sys.argv[1:])
    with harmless_output():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        try:
            if not completion_for(arguments):
                app([argument for argument in arguments if argument != "--debug"], prog_name="cnntrain")
        except SystemExit as done:
            if _interrupt_behind(done):  # between the command and typer, which says nothing of signals
                raise
            return done.code if isinstance(done.code, int) else 1
        finally:
            sys.stdout.flush()
    except (Exception, SystemExit) as error:
        if debug:
            traceback.print_exc()
        return _explain(error, arguments)
    return 0


def _explain(error: BaseException, arguments: list[str]) -> int:
    """Says on stderr what went wrong; the exit code."""
    if isinstance(error, OtherProcessError) and error.is_quiet:
        return error.exit_code
    if isinstance(error, (CnntrainError, OSError)):
        first, *more = error.lines if isinstance(error, CnntrainError) else [str(error)]
        complain(f"error: {first}", *more, *getattr(error, "__notes__", []))
        return error.exit_code if isinstance(error, CnntrainError) else StorageError.exit_code
    if interrupt := _interrupt_behind(error):
        complain(f"error: {str(interrupt) or 'interrupted'}")
        return int(getattr(interrupt, "exit_code", Interrupted.exit_code))
    if isinstance(error, MemoryError) or any(sign in _traceback_of(error) for sign in _NO_MEMORY):
        limit = memory_limit()
        advice = describe_limit(limit) if limit else "close other programs"
        complain(f"error: out of memory while libraries were loaded; {advice}")
        return DeviceError.exit_code
    complain(f"error: a bug of cnntrain: {type(error).__name__}: {error}", _log_bug(error, arguments))
    return 1


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The signal that an error was made of, or that it was raised on the way of."""
    while error:
        if isinstance(error, KeyboardInterrupt):
            return error
        error = error.__cause__ or error.__context__
    return None


def _traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _log_bug(error: BaseException, arguments: list[str]) -> str:
    """Writes the traceback of an error to a file; what to do with it, in words."""
    from importlib.metadata import version

    from platformdirs import user_log_path

    path = user_log_path("cnntrain") / f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    about = f"cnntrain {__version__}, torch {version('torch')}, Python {sys.version}\ncnntrain {shlex.join(arguments)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(printable_lines(f"{about}\n\n{_traceback_of(error)}"), encoding="utf-8")
    except OSError:
        return "please report it, with what --debug shows"
    return f"its traceback is in {path}; please report it with that file and the configuration"
