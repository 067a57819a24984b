"""`cnntrain train`: begins a training, or goes on with one."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cnntrain.cli.options import (
    ConfigOptions,
    NewRunOptions,
    OptionalConfigArgument,
    Overrides,
    QuietOption,
    StepOptions,
    overrides,
)
from cnntrain.cli.output import show
from cnntrain.cli.running import train_and_tell, write_report_at_end
from cnntrain.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from cnntrain.config.loading import LoadedConfig
    from cnntrain.records.console import Console


def train(
    config: OptionalConfigArgument = None,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="With --resume: the run folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN, or the newest unfinished run.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: also with another configuration.")
    ] = False,
    *,
    config_options: ConfigOptions,
    new_run: NewRunOptions,
    steps: StepOptions,
    quiet: QuietOption = False,
) -> None:
    """Train a network: the ten steps, from data preparation to the final test.

    Examples:
        cnntrain train digits_lenet
        cnntrain train my.yaml --epochs 5 --lr 0.1 --set model.activation=relu
        cnntrain train image_folder_resnet18 --data-root ~/photos --device cuda:1
        cnntrain train my.yaml --resume
        cnntrain train --resume runs/my/20260131-120000 --epochs 40
    """
    for unused, option in ((run, "RUN"), (allow_changes, "--allow-changes")):
        if unused and not resume:
            raise ConfigError(f"{option} goes with --resume: cnntrain train CONFIG --resume RUN")
    if config is None and not resume:
        raise ConfigError("say what to train: cnntrain train CONFIG (`cnntrain configs` lists those that are shipped)")
    if resume and run is None and config:
        config, run = _config_or_run(config, new_run.output or Path("runs"))
    changes = overrides(config_options, new_run, steps)

    from cnntrain.config.loading import load_config

    given = load_config(config, *changes) if config else None

    from cnntrain.records.console import Console

    console = Console(quiet=quiet)
    if resume:
        _resume(_Wish(run, given, changes, config_options, new_run, allow_changes), console)
    else:
        assert given is not None
        train_and_tell(given, console)


class _Wish(NamedTuple):
    """What to go on with, and how.

    Attributes:
        run: Its name, or None for the newest that is not finished.
        given: The configuration named; None for the run's own.
        changes: To the run's own.
        config_options: As they were given.
        new_run: As they were given.
        allow_changes: Whether another configuration than the run's is right.
    """

    run: str | None
    given: "LoadedConfig | None"
    changes: Overrides
    config_options: ConfigOptions
    new_run: NewRunOptions
    allow_changes: bool


def _resume(wish: _Wish, console: "Console") -> None:
    """Goes on with a run, or begins one where a configuration has none yet."""
    from cnntrain.records.resume import find_run
    from cnntrain.records.run_folder import in_use
    from cnntrain.records.turns import one_at_a_time

    given = wish.given
    runs = Path(given.config.run.output if given else wish.new_run.output or "runs").expanduser()
    with ExitStack() as turn:
        begun: Callable[[], None] = lambda: None  # noqa: E731
        if given and wish.run is None:
            begun = turn.enter_context(one_at_a_time(runs, str(given.config.run.name), console.say))
        folder = find_run(wish.run, runs, given.config if given else None, wish.new_run.name)
        if folder:
            turn.enter_context(in_use(folder))
            begun()
            _go_on(folder, wish, console)
        elif given:
            console.say(f"nothing to go on with in {runs}: this is the beginning")
            train_and_tell(given, console, on_begin=begun)
        else:
            raise CheckpointError(f"no run in {runs} to go on with; say which with RUN or --output, or give a CONFIG")


def _go_on(folder: Path, wish: _Wish, console: "Console") -> None:
    """Goes on with a run that is `in_use`; without a configuration with its own, and what is changed."""
    from cnntrain.config.loading import load_config
    from cnntrain.records.resume import open_run, restore_config

    given = wish.given
    if given is None:
        restore_config(folder, console.say)
        given = load_config(str(folder / "config.yaml"), *wish.changes)
    resumed = open_run(
        folder,
        given.config,
        allow_changes=wish.allow_changes,
        say=console.say,
        data_root=wish.config_options.data_root,
    )
    if resumed.finished:
        show(f"{folder} is finished: {resumed.finished}")
        if not (folder / "report.html").exists():  # it was stopped on the way
            write_report_at_end(folder, resumed.config, console)
        return
    console.say(f"going on with {folder}")
    for notice in resumed.notices:
        console.say(f"     note: {notice}")
    train_and_tell(replace(given, config=resumed.config), console, resumed)


def _config_or_run(named: str, runs: Path) -> tuple[str | None, str | None]:
    """What the only argument of `train --resume` means: a configuration, or a run by its folder or a file in it."""
    path = Path(named)
    if path.parent.name == "checkpoints" and path.is_file():
        return None, str(path.parent.parent)
    if path.name == "config.yaml" and (path.parent / "checkpoints").is_dir():
        return None, str(path.parent)
    if path.is_dir() or (runs / named).is_dir():
        return None, named
    return named, None
