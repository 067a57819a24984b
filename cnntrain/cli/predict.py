"""`cnntrain predict`: classifies images."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.images import ImagesArgument, files_of, ranking
from cnntrain.cli.loading import described, load_chosen
from cnntrain.cli.options import DeviceOption, JsonOption, OutputOption, QuietOption, RunOption
from cnntrain.cli.output import complain, show, show_json_list
from cnntrain.errors import DataError

if TYPE_CHECKING:
    from cnntrain.trained import Prediction


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
    from cnntrain.runtime.device import compute_alike
    from cnntrain.runtime.joining import joined
    from cnntrain.runtime.streams import is_read
    from cnntrain.runtime.torch_settings import settings_kept
    from cnntrain.trained.predict import predict_each

    with joined() as processes, settings_kept():
        is_first = processes.rank == 0
        trained = load_chosen(run, output, device, processes)
        confidence = trained.header.says_of_confidence
        Console(quiet=quiet or not is_first).say(
            f"predicting with {described(trained.path)}; its probabilities are {confidence}"
        )
        files = processes.first(lambda: files_of(images))
        outcomes = predict_each(
            trained,
            files,
            top,
            processes=processes,
            at_once=compute_alike(trained.header.num_threads, trained.device, processes),
            goes_on=lambda: is_read(sys.stdout),  # not after `| head -1`
        )
        failed = list[DataError]()
        predictions = _readable(outcomes, failed, tells=is_first)
        if not is_first:
            for _ in predictions:
                pass
        elif as_json:
            show_json_list(prediction.to_dict() for prediction in predictions)
        else:
            for prediction in predictions:
                show(prediction.image, *ranking(prediction.ranked))
        if failed:
            raise DataError(f"{len(failed)} of {len(files)} images could not be read")


def _readable(
    outcomes: Iterable["Prediction | DataError"], failed: list[DataError], *, tells: bool
) -> Iterator["Prediction"]:
    """What images show; why others cannot be read is said as it comes, and added to a list."""
    for outcome in outcomes:
        if not isinstance(outcome, DataError):
            yield outcome
            continue
        failed.append(outcome)
        if tells:
            complain(f"error: {outcome}")
