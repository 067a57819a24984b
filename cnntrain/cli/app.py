"""The command line: runs what its arguments say, and explains what goes wrong with an exit code."""

import os
import shlex
import sys
import time
import traceback
from contextlib import nullcontext

from cnntrain import __version__
from cnntrain.cli.commands import app
from cnntrain.cli.completing import COMPLETION, completion_for
from cnntrain.cli.output import complain, harmless_output, no_output
from cnntrain.errors import CnntrainError, DeviceError, Interrupted, StorageError, describe_bug
from cnntrain.runtime.exhaustion import describe_limit, memory_limit
from cnntrain.runtime.launchers import speaks, who_speaks
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
        with nullcontext() if speaks() else no_output():
            return _run([argument for argument in arguments if argument != "--debug"])
    except (Exception, SystemExit) as error:
        if debug:
            traceback.print_exc()
        code = _exit_code(error)
        which = who_speaks(error)
        if which is not None:
            complain(*_explain(error, code, which, arguments))
        return code


def _run(arguments: list[str]) -> int:
    try:
        if not completion_for(arguments):
            app(arguments, prog_name="cnntrain")
        return 0
    except SystemExit as done:
        if _interrupt_behind(done):  # between the command and typer, which says nothing of signals
            raise
        return done.code if isinstance(done.code, int) else 1
    finally:
        sys.stdout.flush()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, CnntrainError):
        return error.exit_code
    if isinstance(error, OSError):
        return StorageError.exit_code
    if interrupt := _interrupt_behind(error):
        return int(getattr(interrupt, "exit_code", Interrupted.exit_code))
    if isinstance(error, MemoryError) or any(sign in _traceback_of(error) for sign in _NO_MEMORY):
        return DeviceError.exit_code
    return CnntrainError.exit_code


def _explain(error: BaseException, code: int, which: str, arguments: list[str]) -> list[str]:
    """What went wrong, in lines; the first begins with `which` process it is about."""
    if isinstance(error, (CnntrainError, OSError)):
        first, *more = error.lines if isinstance(error, CnntrainError) else [str(error)]
        if code == CnntrainError.exit_code:  # of another process, which is this one
            more = [_log_bug(error.__cause__ or error, arguments)]
        return [f"error: {which}{first}", *more, *getattr(error, "__notes__", [])]
    if interrupt := _interrupt_behind(error):
        return [f"error: {which}{str(interrupt) or 'interrupted'}"]
    if code == DeviceError.exit_code:
        limit = memory_limit()
        advice = describe_limit(limit) if limit else "close other programs"
        return [f"error: {which}out of memory while libraries were loaded; {advice}"]
    return [f"error: {which}{describe_bug(error)}", _log_bug(error, arguments)]


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
