"""`cnntrain predict`: classifies images."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.images import ImagesArgument, files_of, ranking
from cnntrain.cli.loading import described, load_chosen
from cnntrain.cli.options import DeviceOption, JsonOption, OutputOption, QuietOption, RunOption
from cnntrain.cli.output import complain, show, show_json
from cnntrain.errors import DataError


def predict(
    images: ImagesArgument,
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
    from cnntrain.runs.console import Console
    from cnntrain.runtime.streams import is_read
    from cnntrain.trained.predict import predict_each

    console = Console(quiet=quiet)
    trained = load_chosen(run, output, device)
    console.say(f"predicting with {described(trained.path)}; its probabilities are {trained.header.says_of_confidence}")
    files = files_of(images)
    failed, entries = 0, []
    for outcome in predict_each(trained, files, top):
        if isinstance(outcome, DataError):
            failed += 1
            complain(f"error: {outcome}")
        elif as_json:
            entries.append(outcome.to_dict())
        else:
            show(outcome.image, *ranking(outcome.ranked))
        if not is_read(sys.stdout):  # as after `| head -1`
            break
    if as_json:
        show_json(entries)
    if failed:
        raise DataError(f"{failed} of {len(files)} images could not be read")
