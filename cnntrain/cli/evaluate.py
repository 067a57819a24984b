"""`cnntrain evaluate`: measures a trained network on a split."""

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.loading import described, load_chosen
from cnntrain.cli.options import DataRootOption, DeviceOption, JsonOption, OutputOption, QuietOption, RunArgument
from cnntrain.cli.output import show, show_json


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

    from cnntrain.runs.console import Console
    from cnntrain.runtime.device import memory_explained
    from cnntrain.runtime.joining import joined
    from cnntrain.trained.evaluate import evaluate_split

    with joined() as processes, memory_explained("close other programs, or use --device cpu"):
        is_first = processes.rank == 0
        console = Console(quiet=quiet or not is_first)
        trained = load_chosen(run, output, device, processes)
        console.say(f"evaluating {described(trained.path)} on {split}")
        root = str(data_root) if data_root else None
        summary = evaluate_split(trained, split, data_root=root, reporter=console, processes=processes)
    if not is_first:
        return
    if not summary["same_images_as_in_training"]:
        console.say(
            f"note: these are not the {split} images that the run recorded (their sha256 differs); "
            f"carved anew from changed files, they may include some that it was trained on"
        )
    show_json(summary) if as_json else show(*trained.task.evaluation_text(summary))
