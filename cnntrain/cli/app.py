"""The command line: what all commands share."""

import functools
import inspect
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from cnntrain import __version__
from cnntrain.cli.completing import COMPLETION, completion_for
from cnntrain.cli.meaning import Command as TyperCommand
from cnntrain.cli.meaning import Group
from cnntrain.cli.output import complain, harmless_output, show
from cnntrain.errors import CnntrainError, DeviceError, Interrupted, StorageError
from cnntrain.names import printable_lines
from cnntrain.runtime.exhaustion import describe_limit, memory_limit
from cnntrain.runtime.processes import refuse_several_processes

EPILOG = (
    "Exit codes: 0 done, 1 a bug, 2 usage or configuration, 3 data, 4 checkpoint, 5 device or memory, 6 numerical, "
    "7 storage, 8 not reproduced, 75 stopped by a signal and saved, 130 interrupted by Ctrl-C. "
    "--debug, anywhere, shows the traceback of a failure."
)

app = typer.Typer(
    help="Train convolutional image classifiers from a YAML file.",
    epilog=EPILOG,
    no_args_is_help=True,
    cls=Group,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # which takes what stands in brackets for markup, and leaves it out
    context_settings={"help_option_names": ["-h", "--help"]},
)

# How libraries that cannot be loaded say that there is no memory.
_NO_MEMORY = ("failed to map segment", "Cannot allocate memory", "cannot allocate memory", "MemoryError")

# Commands that write, and that a launcher must not start several times; `data check` is one with --page.
_WRITING = {
    "train", "reproduce", "bench", "lr_find", "preview", "report", "explain", "filter", "export", "serve", "init",
}  # fmt: skip

Command = TypeVar("Command", bound=Callable[..., None])


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


def command(function: Command, group: typer.Typer = app) -> Command:
    """Registers a command in which Ctrl-C is one of our own errors (typer's releases disagree about it).

    Args:
        function: Whose arguments become the command's.
        group: What it belongs to, such as `data` of `cnntrain data check`.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        if function.__name__ in _WRITING or kwargs.get("page"):
            refuse_several_processes()
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt as error:
            interrupted = Interrupted(str(error) or "interrupted")
            interrupted.exit_code = getattr(error, "exit_code", Interrupted.exit_code)  # that of a signal
            for note in getattr(error, "__notes__", []):
                interrupted.add_note(note)
            raise interrupted from None

    # The character \b asks Typer to keep the lines of the examples apart.
    text = (inspect.getdoc(function) or "").replace("Examples:", "\b\nExamples:")
    group.command(cls=TyperCommand, help=text, short_help=text.partition("\n")[0], epilog=EPILOG)(wrapper)
    return function


def _print_version(wanted: bool) -> None:
    if wanted:
        show(f"cnntrain {__version__}")
        raise typer.Exit


@app.callback()
def _cnntrain(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train convolutional image classifiers from a YAML file."""
