"""`cnntrain explain`: shows why a network says what it says of images."""

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.images import ImagesArgument, PicturesOption, files_to_draw, ranking
from cnntrain.cli.loading import described, load_chosen
from cnntrain.cli.options import DeviceOption, JsonOption, OutputOption, QuietOption, RunOption
from cnntrain.cli.output import complain, show, show_json
from cnntrain.errors import ConfigError, DataError
from cnntrain.reports.explanations import LAYERS, METHODS, Question
from cnntrain.runtime.extras import need


def explain(
    images: ImagesArgument,
    run: RunOption = None,
    method: Annotated[
        str | None, typer.Option(help="grad-cam (unless told otherwise), integrated-gradients or occlusion.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Instead of the predicted class.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show what each stage makes of the image instead.")] = False,
    out: PicturesOption = Path("explanations"),
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Show what in an image speaks for its class, as a picture; or, with --layers, its walk through the network.

    Examples:
        cnntrain explain photo.jpg
        cnntrain explain photos/ --method occlusion --class bee --run runs/bees/20260131-120000
        cnntrain explain digit.png --layers
    """
    question = _question(method, class_name, top, layers=layers)

    from cnntrain.reports.explanations.explaining import class_index, explain_files
    from cnntrain.reports.explanations.saving import Pictures
    from cnntrain.runs.console import Console

    console, pictures = Console(quiet=quiet), Pictures(out)
    trained = load_chosen(run, output, device)
    console.say(f"explaining with {described(trained.path)}")
    if class_name is not None:
        class_index(trained.task.class_names, class_name)
    files = files_to_draw(images, pictures, console)
    entries = []
    for outcome in explain_files(trained, files, question, pictures):
        if isinstance(outcome, DataError):
            complain(f"error: {outcome}")
            continue
        entries.append(outcome.to_dict(top))
        if not as_json:
            show(outcome.prediction.image, *ranking(outcome.prediction.ranked[:top]), f"  {outcome.picture}")
    if as_json:
        show_json(entries)
    if len(entries) < len(files):
        raise DataError(f"{len(files) - len(entries)} of {len(files)} images could not be read")


def _question(method: str | None, class_name: str | None, top: int, *, layers: bool) -> Question:
    """The options of `explain` as a question, once what it needs is there."""
    if layers:
        if method is not None or class_name is not None:
            raise ConfigError("--layers shows the whole network and no class; leave out --method and --class")
        return Question(LAYERS, None, top)
    method = "grad-cam" if method is None else method
    if method not in METHODS:
        raise typer.BadParameter(f"{method!r} is no method (allowed: {', '.join(METHODS)})", param_hint="--method")
    if method != "grad-cam":
        need("explain", f"--method {method}")
    return Question(method, class_name, top)
