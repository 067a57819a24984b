"""The commands that use a trained network."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import (
    DataRootOption,
    DeviceOption,
    JsonOption,
    OutputOption,
    QuietOption,
    RunArgument,
    RunOption,
)
from cnntrain.cli.output import complain, show, show_json
from cnntrain.errors import ConfigError, DataError
from cnntrain.names import shortened


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

    from cnntrain.records.console import Console
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import memory_explained, resolve_device
    from cnntrain.tasks.tables import evaluation_text
    from cnntrain.trained import load

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    console.say(f"evaluating {path} on {split}{unfinished(path)}")
    where = resolve_device(device or "auto")
    root = str(data_root) if data_root else None
    with memory_explained("close other programs, or use --device cpu"):
        summary = load(path, where).evaluate(split, data_root=root, reporter=console)
    if not summary["same_images_as_in_training"]:
        console.say(
            f"note: these are not the {split} images that the run recorded (their sha256 differs); "
            f"carved anew from changed files, they may include some that it was trained on"
        )
    show_json(summary) if as_json else show(*evaluation_text(summary))


@command
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders and globs.")],
    run: RunOption = None,
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
    from cnntrain.records.console import Console
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import resolve_device
    from cnntrain.runtime.streams import is_read
    from cnntrain.trained import load
    from cnntrain.trained.predict import find_images, predict_each

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    trained = load(path, resolve_device(device or "auto"))
    console.say(f"predicting with {path}{unfinished(path)}; its probabilities are {trained.header.says_of_confidence}")
    if "" in images:
        raise ConfigError("an IMAGE is empty; is a variable of the shell not set?")
    files = list(find_images(images))
    failed, found = 0, []
    for outcome in predict_each(trained, files, top):
        if isinstance(outcome, DataError):
            failed += 1
            complain(f"error: {outcome}")
        elif as_json:
            found.append(outcome.to_dict())
        else:
            show(outcome.image, *(f"  {100 * share:6.2f} %  {shortened(name)}" for name, share in outcome.ranked))
        if not is_read(sys.stdout):  # as after `| head -1`
            break
    if as_json:
        show_json(found)
    if failed:
        raise DataError(f"{failed} of {len(files)} images could not be read")
