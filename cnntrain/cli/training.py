"""The commands that train networks."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import (
    BatchSizeOption,
    ConfigArgument,
    DataRootOption,
    DeviceOption,
    EpochsOption,
    LearningRateOption,
    NameOption,
    NewRunOutputOption,
    OptionalConfigArgument,
    QuietOption,
    SeedOption,
    SetOption,
    WorkersOption,
    assignments,
)
from cnntrain.cli.output import show
from cnntrain.errors import CheckpointError, CnntrainError, ConfigError, ReproductionError

if TYPE_CHECKING:
    from cnntrain.config.loading import Config, LoadedConfig
    from cnntrain.records.console import Console
    from cnntrain.records.resume import Resumed
    from cnntrain.train import TrainResult


@command
def train(
    config: OptionalConfigArgument = None,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="With --resume: the run folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN, or the newest unfinished run.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: also with another configuration.")
    ] = False,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    output: NewRunOutputOption = None,
    name: NameOption = None,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    workers: WorkersOption = None,
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
    flags = assignments(
        device=device, data_root=data_root, output=output, name=name, seed=seed, epochs=epochs, batch_size=batch_size,
        lr=lr, workers=workers,
    )  # fmt: skip
    for unused, option in ((run, "RUN"), (allow_changes, "--allow-changes")):
        if unused and not resume:
            raise ConfigError(f"{option} goes with --resume: cnntrain train CONFIG --resume RUN")
    if config is None and not resume:
        raise ConfigError("say what to train: cnntrain train CONFIG (`cnntrain configs` lists those that are shipped)")
    if resume and run is None and config:
        config, run = _config_or_run(config, output or Path("runs"))

    from cnntrain.config.loading import load_config

    given = load_config(config, set_ or [], flags) if config else None

    from cnntrain.records.console import Console

    console = Console(quiet=quiet)
    if not resume:
        assert given is not None
        _train(given, console)
        return

    from cnntrain.records.resume import find_run
    from cnntrain.records.run_folder import in_use
    from cnntrain.records.turns import one_at_a_time

    runs = Path(given.config.run.output if given else output or "runs").expanduser()
    with ExitStack() as turn:
        begun: Callable[[], None] = lambda: None  # noqa: E731
        if given and run is None:
            begun = turn.enter_context(one_at_a_time(runs, str(given.config.run.name), console.say))
        folder = find_run(run, runs, given.config if given else None, name)
        if folder:
            turn.enter_context(in_use(folder))
            begun()
            _go_on(folder, given, console, (set_ or [], flags), data_root=data_root, allow_changes=allow_changes)
        elif given:
            console.say(f"nothing to go on with in {runs}: this is the beginning")
            _train(given, console, on_begin=begun)
        else:
            raise CheckpointError(f"no run in {runs} to go on with; say which with RUN or --output, or give a CONFIG")


def _go_on(
    folder: Path,
    given: "LoadedConfig | None",
    console: "Console",
    overrides: tuple[list[str], list[tuple[str, str]]],
    *,
    data_root: Path | None,
    allow_changes: bool,
) -> None:
    """Goes on with a run that is `in_use`; without a configuration with its own, and what is said anew."""
    from cnntrain.config.loading import load_config
    from cnntrain.records.resume import open_run, restore_config

    if given is None:
        restore_config(folder, console.say)
        given = load_config(str(folder / "config.yaml"), *overrides)
    resumed = open_run(folder, given.config, allow_changes=allow_changes, say=console.say, data_root=data_root)
    if resumed.finished:
        show(f"{folder} is finished: {resumed.finished}")
        if not (folder / "report.html").exists():  # it was stopped on the way
            write_report_at_end(folder, resumed.config, console)
        return
    console.say(f"going on with {folder}")
    for notice in resumed.notices:
        console.say(f"     note: {notice}")
    _train(replace(given, config=resumed.config), console, resumed)


@command
def reproduce(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    output: NewRunOutputOption = None,
    name: NameOption = None,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network and see whether its test accuracy is what the configuration expects.

    Examples:
        cnntrain reproduce digits_lenet
        cnntrain reproduce cifar10_lenet --seed 3 --data-root ~/data
    """
    flags = assignments(
        device=device, data_root=data_root, output=output, name=name, seed=seed, epochs=epochs, batch_size=batch_size,
        lr=lr, workers=workers,
    )  # fmt: skip

    from cnntrain.config.loading import load_config
    from cnntrain.reproduce import changed_keys, compare

    loaded = load_config(config, set_ or [], flags)
    label, expect = loaded.document.label, loaded.config.expect
    if expect is None:
        raise ConfigError(
            f"{label}: there is no `expect` to compare with; add what one run should reach, such as "
            f"`expect: {{accuracy: [0.97, 0.99], basis: measured}}`, or use `cnntrain train`"
        )
    changed = changed_keys(load_config(config).config, loaded.config)
    notes = [f"note: the band is for {label} as it stands; changed here: {', '.join(changed)}"] if changed else []

    from cnntrain.records.console import Console

    console = Console(quiet=quiet)
    for note in notes:
        console.say(note)
    folder, results = _train(loaded, console)
    if results["test"] is None:
        raise ReproductionError(
            "nothing was tested (data.test_fraction: 0), so there is nothing to compare with the band"
        )
    reproduced, text = compare(results["test"], expect)
    if reproduced:
        show(text, *notes)
        return
    error = ReproductionError(f"{text}; the run is kept: cnntrain evaluate {folder}")
    for note in [*notes, *([f"the band: {' '.join(expect.note.split())}"] if expect.note else [])]:
        error.add_note(note)
    raise error


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


def _train(
    loaded: "LoadedConfig",
    console: "Console",
    resumed: "Resumed | None" = None,
    on_begin: Callable[[], None] = lambda: None,
) -> "TrainResult":
    """Trains, and says what came out."""
    from cnntrain.config.loading import locate
    from cnntrain.records.console import percent
    from cnntrain.runtime.device import memory_explained
    from cnntrain.tasks.intervals import Interval, spoken
    from cnntrain.train import run

    console.say(f"configuration {loaded.document.label}")
    advice = "lower data.image_size or data.stored_size, or set data.storage: cache or stream"
    try:
        with locate(loaded), memory_explained(advice):
            folder, results = result = run(loaded.config, console, resumed, on_begin)
    except KeyboardInterrupt as error:
        if not getattr(error, "__notes__", None):
            error.add_note("training had not begun; start it again with the same command")
        raise
    test, val = results["test"], results["val"]
    at = f"epoch {results['best_epoch']} of {results['epochs_run']}"
    tested = "no test images: nothing was tested"
    if test:
        interval = spoken(Interval(*test["accuracy_interval"]), 2)
        tested = (
            f"test accuracy {percent(test['accuracy'])} (95 % interval {interval}), loss {test['loss']:.4f} on "
            f"{test['num_images']:,} images"
        )
    validated = (
        f"validation {percent(val['accuracy'])} of {val['num_images']:,} at {at}"
        if val
        else f"no validation; the weights of {at} are kept"
    )
    show(f"{tested}; {validated}", f"run folder {folder}")
    write_report_at_end(folder, loaded.config, console)
    if loaded.config.run.tensorboard:
        console.say(f"look at it: tensorboard --logdir {folder.parent}")
    console.say(f"use it:     cnntrain predict IMAGE --run {folder}")
    return result


def write_report_at_end(folder: Path, config: "Config", console: "Console") -> None:
    """Writes the report of a finished run, which stays finished whatever happens to its report."""
    if not config.run.report:
        return

    from cnntrain.report import write_report
    from cnntrain.runtime.device import memory_explained, resolve_device

    later = f"cnntrain report {folder}"
    try:
        with memory_explained("close other programs"):
            written = write_report(folder, device=resolve_device(config.run.device), reporter=console)
        show(f"report     {written.path}")
    except CnntrainError as error:
        console.say(
            f"note: the run is finished, but its report is not written: {'; '.join(error.lines)}; try again: {later}"
        )
    except KeyboardInterrupt as error:
        error.add_note(f"the run is finished, only its report is not: {later}")
        raise
