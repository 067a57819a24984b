"""`cnntrain export`: hands a trained network on."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntrain.cli.loading import described, load_chosen
from cnntrain.cli.options import DataRootOption, JsonOption, OutputOption, QuietOption, RunArgument
from cnntrain.cli.output import show, show_json

if TYPE_CHECKING:
    from cnntrain.tasks.task import ExportNotes


class Format(StrEnum):
    """What a network is exported as."""

    onnx = "onnx"
    torch_export = "torch-export"
    safetensors = "safetensors"


FormatOption = Annotated[
    Format, typer.Option("--format", help="onnx and torch-export hold preprocessing too; safetensors weights only.")
]
OutOption = Annotated[
    Path | None, typer.Option(help="The file to write, or its folder; by default `export` in the run folder.")
]
RealImagesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="Real images to compare on, instead of the run's test images; repeatable."),
]


def export(
    run: RunArgument = None,
    format_: FormatOption = Format.onnx,
    out: OutOption = None,
    images: RealImagesOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
    as_json: JsonOption = False,
    data_root: DataRootOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Write a trained network for use without cnntrain, once it agrees with the original on real images.

    Without RUN, the newest run. Beside the file, FILE.json says all that its user must know.

    Examples:
        cnntrain export
        cnntrain export runs/digits_lenet/20260131-120000 --format torch-export --out digits.pt2
        cnntrain export best.safetensors --images photos/
    """
    if format_ is Format.onnx:
        from cnntrain.runtime.extras import need

        need("export", "--format onnx")

    from cnntrain.runs.console import Console
    from cnntrain.runtime.device import memory_explained
    from cnntrain.trained.export import export_network, export_target
    from cnntrain.trained.export.images import given_images, images_of_run

    console = Console(quiet=quiet)
    trained = load_chosen(run, output, "cpu")
    target = export_target(trained, format_.value, out=out, overwrite=overwrite)
    console.say(f"exporting {described(trained.path)}")
    with memory_explained("close other programs"):
        if images:
            real = given_images(trained, images)
        else:
            real = images_of_run(trained, data_root=str(data_root) if data_root else None, reporter=console)
        console.say(f"to be compared with the original on {real.origin}")
        card = export_network(trained, real, kind=format_.value, target=target)
    if as_json:
        show_json({"path": str(target), **card})
    else:
        show(*_text(card, target, trained.task.export_notes))


def _text(card: dict[str, Any], target: Path, notes: "ExportNotes") -> list[str]:
    from cnntrain.data.storage import describe_size

    agreement = card["agreement"]
    sizes = ", ".join(map(str, agreement["batch_sizes"]))
    differences = [
        f"{name} by up to {agreement[f'max_difference_{name}']:.1g}" for name in reversed(list(notes.outputs))
    ]
    differences[0] = differences[0].replace(" by", " differ by", 1)
    if notes.decision:
        differences.append(f"and the {notes.decision} is always the same")
    opset = f", opset {card['versions']['onnx_opset']}" if card["format"] == "onnx" else ""
    return [
        f"{target} ({card['format']}{opset}, {describe_size(card['num_bytes'])})",
        f"{target}.json says all that its user must know",
        f"it agrees with the original on {agreement['images']}, in batches of {sizes}:",
        ", ".join(differences),
        "",
        f"to use it, in {target.parent}:",
        "",
        *(f"    {line}".rstrip() for line in card["usage"]),
    ]
