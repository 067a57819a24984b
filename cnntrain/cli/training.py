"""The commands that train and use networks."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import (
    ConfigArgument,
    DataRootOption,
    DeviceOption,
    EpochsOption,
    JsonOption,
    NameOption,
    NewRunOutputOption,
    OptionalConfigArgument,
    OutputOption,
    QuietOption,
    RunArgument,
    SeedOption,
    SetOption,
    assignments,
)
from cnntrain.errors import CheckpointError, ConfigError, DataError, ReproductionError

if TYPE_CHECKING:
    from cnntrain.config import LoadedConfig
    from cnntrain.records.console import Console
    from cnntrain.records.resume import Resumed
    from cnntrain.train import TrainResult

SMALLER = "lower recipe.micro_batch or recipe.batch_size, data.image_size or data.stored_size"


@command
def train(
    config: OptionalConfigArgument = None,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="With --resume: the run folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN, or the newest unfinished run.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: also with another configuration or other images.")
    ] = False,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    output: NewRunOutputOption = None,
    name: NameOption = None,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network: the ten steps, from data preparation to the final test.

    Examples:
        cnntrain train digits_lenet
        cnntrain train my.yaml --epochs 5 --set recipe.optimizer.lr=0.1
        cnntrain train image_folder_resnet18 --data-root ~/photos --device cuda:1
        cnntrain train my.yaml --resume
        cnntrain train --resume runs/my/20260131-120000 --epochs 40
    """
    flags = assignments(device=device, data_root=data_root, output=output, name=name, seed=seed, epochs=epochs)
    for unused, option in ((run, "RUN"), (allow_changes, "--allow-changes")):
        if unused and not resume:
            raise ConfigError(f"{option} goes with --resume: cnntrain train CONFIG --resume RUN")
    if config is None and not resume:
        raise ConfigError("say what to train: cnntrain train CONFIG (`cnntrain configs` lists those that are shipped)")
    if resume and run is None and config and (Path(config) / "config.yaml").is_file():
        config, run = None, config

    from cnntrain.config import load_config

    given = load_config(config, set_ or [], flags) if config else None

    from cnntrain.records.console import Console

    console = Console(quiet=quiet)
    if not resume:
        assert given is not None
        _train(given, console)
        return

    from cnntrain.records.resume import find_run, open_run

    runs = Path(given.config.run.output) if given else output or Path("runs")
    folder = find_run(run, runs, given.config.run.name if given else name)
    if folder is None and given is None:
        raise CheckpointError(f"no run in {runs} to go on with; say which with RUN or --output, or give a CONFIG")
    if folder is None:
        console.say(f"nothing to go on with in {runs}: this is the beginning")
        _train(given, console)
        return
    given = given or load_config(str(folder / "config.yaml"), set_ or [], flags)
    resumed = open_run(folder, given.config, allow_changes=allow_changes, say=console.say)
    if resumed.finished:
        print(f"{folder} is finished: {resumed.finished}")
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
    quiet: QuietOption = False,
) -> None:
    """Train a network and see whether its test accuracy is what the configuration expects.

    Examples:
        cnntrain reproduce digits_lenet
        cnntrain reproduce cifar10_lenet --seed 3 --data-root ~/data
    """
    flags = assignments(device=device, data_root=data_root, output=output, name=name, seed=seed, epochs=epochs)

    from cnntrain.config import load_config
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
    reproduced, text = compare(results["test"], expect)
    if reproduced:
        print("\n".join([text, *notes]))
        return
    error = ReproductionError(f"{text}; the run is kept: cnntrain evaluate {folder}")
    for note in [*notes, *([f"the band: {expect.note}"] if expect.note else [])]:
        error.add_note(note)
    raise error


@command
def evaluate(
    run: RunArgument = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    as_json: JsonOption = False,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Measure a trained network on a split; without RUN, the newest run.

    Examples:
        cnntrain evaluate
        cnntrain evaluate runs/digits_lenet/20260131-120000 --split val
        cnntrain evaluate best.safetensors --data-root ~/data --json
    """
    if split not in ("train", "val", "test"):
        raise typer.BadParameter(f"{split!r} is no split (allowed: test, val, train)", param_hint="--split")

    from cnntrain.evaluate import evaluate_checkpoint
    from cnntrain.records.console import Console
    from cnntrain.records.files import to_json
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.records.tables import evaluation_text
    from cnntrain.runtime.device import memory_explained, resolve_device

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    console.say(f"evaluating {path} on {split}{unfinished(path)}")
    where = resolve_device(device or "auto")
    root = str(data_root) if data_root else None
    with memory_explained("close other programs, or use --device cpu"):
        summary = evaluate_checkpoint(path, split, device=where, data_root=root, reporter=console)
    if not summary["same_images_as_in_training"]:
        console.say(
            f"note: these are not the {split} images that the run recorded (their sha256 differs); "
            f"carved anew from changed files, they may include some that it was trained on"
        )
    print(to_json(summary) if as_json else evaluation_text(summary))


@command
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders and globs.")],
    run: Annotated[str | None, typer.Option(help="Run folder or checkpoint file; the newest run by default.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Classify images with a trained network; without --run, the newest run.

    Examples:
        cnntrain predict photo.jpg
        cnntrain predict photos/ 'more/*.png' --top 3 --json
        cnntrain predict photo.jpg --run runs/digits_lenet/20260131-120000
    """
    from cnntrain.predict import find_images
    from cnntrain.predict import predict as predict_files
    from cnntrain.records.checkpoints import load_network
    from cnntrain.records.console import Console
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import resolve_device
    from cnntrain.task import SingleLabel

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    where = resolve_device(device or "auto")
    model, header = load_network(path, where)
    console.say(f"predicting with {path}{unfinished(path)}")
    task = SingleLabel(header.class_names)
    if "" in images:
        raise ConfigError("an IMAGE is empty; is a variable of the shell not set?")
    files = list(find_images(images))
    failed, found = 0, []
    for outcome in predict_files(model, files, preprocessing=header.preprocessing, task=task, device=where, top=top):
        if isinstance(outcome, DataError):
            failed += 1
            print(f"error: {outcome}", file=sys.stderr)
        elif as_json:
            ranked = [{"class": name, "probability": share} for name, share in outcome.ranked]
            found.append({"image": outcome.image, "predictions": ranked})
        else:
            print(outcome.image)
            for name, share in outcome.ranked:
                print(f"  {100 * share:6.2f} %  {name}")
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    if failed:
        raise DataError(f"{failed} of {len(files)} images could not be read")


@command
def check(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    quiet: QuietOption = False,
) -> None:
    """Try a configuration on one batch, without training or writing a run.

    Examples:
        cnntrain check digits_lenet
        cnntrain check my.yaml --set recipe.batch_size=512
    """
    from cnntrain.config import load_config, locate

    loaded = load_config(config, set_ or [], assignments(device=device, data_root=data_root))

    from cnntrain.check import check as check_config
    from cnntrain.records.console import Console
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        print(check_config(loaded.config, Console(quiet=quiet)))


@command
def bench(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each part is measured.")] = 9,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how close training comes to its bare arithmetic, and where the rest of the time goes. Writes no run.

    Examples:
        cnntrain bench cifar10_lenet
        cnntrain bench my.yaml --set recipe.batch_size=256 --json
    """
    from cnntrain.config import load_config, locate

    loaded = load_config(config, set_ or [], assignments(device=device, data_root=data_root))

    from dataclasses import asdict

    from cnntrain.bench import measure, report
    from cnntrain.records.console import Console
    from cnntrain.records.files import to_json
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        figures = measure(loaded.config, Console(quiet=quiet), rounds)
    print(to_json(asdict(figures)) if as_json else report(figures))


def _train(loaded: "LoadedConfig", console: "Console", resumed: "Resumed | None" = None) -> "TrainResult":
    """Trains, and says what came out."""
    from cnntrain.config import locate
    from cnntrain.records.console import percent
    from cnntrain.runtime.device import memory_explained
    from cnntrain.train import run

    console.say(f"configuration {loaded.document.label}")
    with locate(loaded), memory_explained(SMALLER):
        folder, results = result = run(loaded.config, console, resumed)
    test = results["test"]
    print(
        f"test accuracy {percent(test['accuracy'])}, loss {test['loss']:.4f} on {test['num_images']:,} images; "
        f"validation {percent(results['val']['accuracy'])} at epoch {results['best_epoch']} of {results['epochs_run']}"
    )
    print(f"run folder {folder}")
    console.say(f"look at it: tensorboard --logdir {folder.parent}\nuse it:     cnntrain predict IMAGE --run {folder}")
    return result
