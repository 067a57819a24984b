"""The command that hands a trained network on."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import DataRootOption, JsonOption, OutputOption, QuietOption, RunArgument
from cnntrain.cli.output import show, show_json
from cnntrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cnntrain.data.preprocessing import Preprocessing
    from cnntrain.export.agreement import RealImages
    from cnntrain.records.checkpoints import Header
    from cnntrain.records.console import Console

Item = TypeVar("Item")

MOST_IMAGES = 256  # to compare on


class Format(StrEnum):
    """What a network is exported as."""

    onnx = "onnx"
    torch_export = "torch-export"
    safetensors = "safetensors"


@command
def export(
    run: RunArgument = None,
    format_: Annotated[
        Format, typer.Option("--format", help="onnx and torch-export hold preprocessing too; safetensors weights only.")
    ] = Format.onnx,
    out: Annotated[
        Path | None, typer.Option(help="The file to write, or its folder; by default `export` in the run folder.")
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Real images to compare on, instead of the run's test images; repeatable."),
    ] = None,
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
        from cnntrain.extras import need

        need("export", "--format onnx")

    from cnntrain.export import export_network
    from cnntrain.records.checkpoints import load_network
    from cnntrain.records.console import Console
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import memory_explained, resolve_device

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    model, header = load_network(path, resolve_device("cpu"))
    target = _target(out, overwrite, path, header, format_)
    console.say(f"exporting {path}{unfinished(path)}")
    with memory_explained("close other programs"):
        found = _given_images(images, header.preprocessing) if images else _test_images(header, data_root, console)
        console.say(f"to be compared with the original on {found.origin}")
        card = export_network(model, header, found, kind=format_.value, checkpoint=path, target=target)
    if as_json:
        show_json({"path": str(target), **card})
    else:
        show(*_text(card, target))


def _target(out: Path | None, overwrite: bool, checkpoint: Path, header: "Header", format_: Format) -> Path:
    """The file to write, which is nobody else's: an export in the run folder may be replaced by the next one."""
    from cnntrain.export import SUFFIXES, card_of
    from cnntrain.records.runs import BEST

    suffix = SUFFIXES[format_.value]
    name = f"{header.config.run.name or header.config.model.name}{suffix}"
    if out is None:
        in_run = checkpoint.parent.name == BEST.parent.name
        return (checkpoint.parents[1] if in_run else checkpoint.parent) / "export" / name
    target = out / name if out.is_dir() else out
    if target.suffix != suffix:
        raise ConfigError(f"--out {out}: files of --format {format_.value} end in {suffix}")
    if target.exists() and target.samefile(checkpoint):
        raise ConfigError(f"--out {out} is the checkpoint itself; choose another name")
    for path in (target, card_of(target)):
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists already and is left as it is; --overwrite replaces it")
    return target


def _test_images(header: "Header", data_root: Path | None, console: "Console") -> "RealImages":
    """Test images of the run, evenly chosen; where it had none, those of validation or training."""
    from cnntrain.evaluate import recorded_split
    from cnntrain.export.agreement import RealImages
    from cnntrain.runtime.device import resolve_device

    root = str(data_root) if data_root else None
    kinds = {"test": "test", "val": "validation", "train": "training"}
    name = next(name for name in kinds if header.splits[name]["num_images"])
    try:
        split, _ = recorded_split(header, name, device=resolve_device("cpu"), data_root=root, reporter=console)
    except DataError as error:
        error.add_note("an export is compared with the original on real images: --images PATH takes others")
        raise
    chosen = _evenly(range(len(split)))
    return RealImages(split.pixels(chosen), f"{len(chosen)} of {len(split):,} {kinds[name]} images")


def _given_images(arguments: list[str], preprocessing: "Preprocessing") -> "RealImages":
    """Images of files, folders and globs, evenly chosen."""
    import numpy as np

    from cnntrain.data.decode import fit_content, read_bytes
    from cnntrain.export.agreement import RealImages
    from cnntrain.predict import find_images

    if "" in arguments:
        raise ConfigError("--images is empty; is a variable of the shell not set?")
    files = list(find_images(arguments))
    for file in files:
        if isinstance(file, DataError):
            raise file
    chosen = _evenly([file for file in files if isinstance(file, Path)])
    pixels = np.stack([fit_content(read_bytes(file), preprocessing, file) for file in chosen])
    return RealImages(pixels, f"{len(chosen)} of {len(files):,} images of {', '.join(arguments)}")


def _evenly(items: Sequence[Item]) -> list[Item]:
    """At most `MOST_IMAGES` of them, from the first to the last: those of one class often stand together."""
    count = min(len(items), MOST_IMAGES)
    return [items[index * len(items) // count] for index in range(count)]


def _text(card: dict[str, Any], target: Path) -> list[str]:
    from cnntrain.data.storage import describe_size

    found = card["agreement"]
    sizes = ", ".join(map(str, found["batch_sizes"]))
    opset = f", opset {card['versions']['onnx_opset']}" if card["format"] == "onnx" else ""
    return [
        f"{target} ({card['format']}{opset}, {describe_size(card['num_bytes'])})",
        f"{target}.json says all that its user must know",
        f"it agrees with the original on {found['images']}, in batches of {sizes}:",
        f"probabilities differ by up to {found['max_difference_probabilities']:.1g}, logits by up to "
        f"{found['max_difference_logits']:.1g}, and the top class is always the same",
        "",
        f"to use it, in {target.parent}:",
        "",
        *(f"    {line}".rstrip() for line in card["usage"]),
    ]
