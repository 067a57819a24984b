"""Which commands there are. Each is a function in a file, both named after it, imported when it is asked for."""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, ClassVar

import typer
import typer.main

from cnntrain import __version__
from cnntrain.cli.meaning import Command, Group
from cnntrain.cli.output import show
from cnntrain.cli.several import ProcessesOptions, done_by_several
from cnntrain.errors import Interrupted
from cnntrain.runtime.launchers import refuse_several_processes

EPILOG = (
    "Exit codes: 0 done, 1 a bug, 2 usage or configuration, 3 data, 4 checkpoint, 5 device or memory, 6 numerical, "
    "7 storage, 8 not reproduced, 75 stopped by a signal and saved, 130 interrupted by Ctrl-C. "
    "--debug, anywhere, shows the traceback of a failure."
)

# Commands whose work several processes share: they have the option --processes.
_SHARED = {"train", "reproduce", "bench", "evaluate", "predict"}

# Commands that write, and that a launcher must not start several times; `data check` is one with --page.
_WRITING = {
    "lr-find", "preview", "report", "explain", "filter", "export", "serve", "init",
}  # fmt: skip


class Commands(Group):
    """All commands, in the order of --help."""

    package: ClassVar[str] = "cnntrain.cli"
    names: ClassVar[tuple[str, ...]] = (
        "train", "reproduce", "check", "bench", "lr-find", "evaluate", "predict", "report", "explain", "filter",
        "export", "serve", "models", "summary", "runs", "configs", "init", "schema", "help", "data",
    )  # fmt: skip

    def list_commands(self, ctx: Any) -> list[str]:
        """The names."""
        return list(self.names)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, from its file; None where there is none."""
        if cmd_name in self.commands or cmd_name not in self.names:
            return super().get_command(ctx, cmd_name)  # `data`, or None
        word = cmd_name.replace("-", "_")
        return _as_command(cmd_name, getattr(importlib.import_module(f"{self.package}.{word}"), word))


class DataCommands(Commands):
    """The commands of `cnntrain data`."""

    package = "cnntrain.cli.data"
    names = ("check", "preview")


app = typer.Typer(
    help="Train convolutional image classifiers from a YAML file.",
    epilog=EPILOG,
    no_args_is_help=True,
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # which takes what stands in brackets for markup, and leaves it out
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(
    typer.Typer(cls=DataCommands, help="Look at the data before training.", epilog=EPILOG, no_args_is_help=True),
    name="data",
)


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


def _as_command(name: str, function: Callable[..., None]) -> Any:
    """A function as a command: its arguments are the command's, its docstring the help."""
    # The character \b asks Typer to keep the lines of the examples apart.
    text = (inspect.getdoc(function) or "").replace("Examples:", "\b\nExamples:")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    register = alone.command(name, cls=Command, help=text, short_help=text.partition("\n")[0], epilog=EPILOG)
    register(_with_plain_options(_guarded(name, function)))
    return typer.main.get_command(alone)


def _guarded(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """The function, of which Ctrl-C is one of our own errors (typer's releases disagree about it)."""

    @functools.wraps(function)
    def guarded(**options: Any) -> None:
        if name in _WRITING:
            refuse_several_processes()
        try:
            if name not in _SHARED or not done_by_several(options.pop("several")):
                function(**options)
        except KeyboardInterrupt as error:
            interrupted = Interrupted(str(error) or "interrupted")
            interrupted.exit_code = getattr(error, "exit_code", Interrupted.exit_code)  # that of a signal
            for note in getattr(error, "__notes__", []):
                interrupted.add_note(note)
            raise interrupted from None

    if name in _SHARED:
        own = inspect.signature(function)
        several = inspect.Parameter("several", inspect.Parameter.KEYWORD_ONLY, annotation=ProcessesOptions)
        guarded.__signature__ = own.replace(parameters=[*own.parameters.values(), several])  # type: ignore[attr-defined]
    return guarded


def _with_plain_options(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer wants it: a bundle (see `options`) is replaced by an option for each of its fields."""
    bundles: dict[str, type[Any]] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            bundles[parameter.name] = kind
            flat += inspect.signature(kind).parameters.values()
        else:
            flat.append(parameter)

    def plain(**options: Any) -> None:
        for name, bundle in bundles.items():
            options[name] = bundle(**{field.name: options.pop(field.name) for field in fields(bundle)})
        function(**options)

    by_name = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in flat]
    plain.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    plain.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return plain
