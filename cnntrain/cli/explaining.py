"""The commands that explain: a prediction, and what a convolution does."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import DeviceOption, JsonOption, OutputOption, QuietOption, RunOption
from cnntrain.cli.output import complain, show, show_json
from cnntrain.errors import ConfigError, DataError
from cnntrain.explain import LAYERS, METHODS, Question
from cnntrain.extras import need
from cnntrain.names import shortened

if TYPE_CHECKING:
    from cnntrain.explain.saving import Pictures
    from cnntrain.records.console import Console

ImagesArgument = Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders and globs.")]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Where pictures go; or the one picture's file, NAME.png.")
]


@command
def explain(
    images: ImagesArgument,
    run: RunOption = None,
    method: Annotated[
        str | None, typer.Option(help="grad-cam (unless told otherwise), integrated-gradients or occlusion.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Instead of the predicted class.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show what each stage makes of the image instead.")] = False,
    out: OutOption = Path("explanations"),
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

    from cnntrain.explain.explaining import class_index, explain_files
    from cnntrain.explain.saving import Pictures
    from cnntrain.records.console import Console
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import resolve_device
    from cnntrain.trained import load

    console, pictures = Console(quiet=quiet), Pictures(out)
    path = find_checkpoint(run, output)
    trained = load(path, resolve_device(device or "auto"))
    console.say(f"explaining with {path}{unfinished(path)}")
    if class_name is not None:
        class_index(trained.task.class_names, class_name)
    files = _find(images, pictures, console)
    explained = []
    for outcome in explain_files(trained, files, question, pictures):
        if isinstance(outcome, DataError):
            complain(f"error: {outcome}")
            continue
        explained.append(outcome.to_dict(top))
        if not as_json:
            ranked = (f"  {100 * share:6.2f} %  {shortened(name)}" for name, share in outcome.prediction.ranked[:top])
            show(outcome.prediction.image, *ranked, f"  {outcome.picture}")
    if as_json:
        show_json(explained)
    if len(explained) < len(files):
        raise DataError(f"{len(files) - len(explained)} of {len(files)} images could not be read")


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


def _find(images: Sequence[str], pictures: "Pictures", console: "Console") -> list[Path | DataError]:
    """The files meant, without the pictures that these commands make."""
    from cnntrain.explain.saving import is_own_picture
    from cnntrain.trained.predict import find_images

    if "" in images:
        raise ConfigError("an IMAGE is empty; is a variable of the shell not set?")
    found = list(find_images(images))
    files = [file for file in found if isinstance(file, DataError) or not is_own_picture(file)]
    if len(files) < len(found):
        console.say(f"note: {len(found) - len(files)} pictures that cnntrain made are left out")
    if pictures.is_file and len(files) > 1:
        raise ConfigError(f"--out {pictures.out} is one picture, and there are {len(files)} images; name a folder")
    return files


@command
def filter(
    images: ImagesArgument,
    kernel: Annotated[
        list[str],
        typer.Option(
            help="sobel-x, sobel-y, laplacian, sharpen, blur, identity, or rows of numbers: '[[-1, 1], [-1, 1]]'. "
            "May be given again."
        ),
    ],
    padding: Annotated[str, typer.Option(help="zero, reflect or none: what lies around the image.")] = "zero",
    stride: Annotated[int, typer.Option(min=1, max=100, help="By how many px the kernel moves.")] = 1,
    colour: Annotated[bool, typer.Option("--colour", help="Red, green and blue each alone, instead of grey.")] = False,
    out: OutOption = Path("explanations"),
    quiet: QuietOption = False,
) -> None:
    """Show what one convolution does to an image: the image, the kernel and the result side by side.

    Examples:
        cnntrain filter photo.jpg --kernel sobel-x
        cnntrain filter photo.jpg --kernel blur --kernel sharpen --kernel '[[-1, 1], [-1, 1]]' --colour
    """
    from cnntrain.data.images.decode import decode_image, read_bytes
    from cnntrain.explain.filtering import filter_image
    from cnntrain.explain.kernels import PADDINGS, parse_kernel
    from cnntrain.explain.saving import Pictures
    from cnntrain.records.console import Console

    if padding not in PADDINGS:
        raise typer.BadParameter(f"{padding!r} is no padding (allowed: {', '.join(PADDINGS)})", param_hint="--padding")
    kernels = [parse_kernel(text) for text in kernel]
    pictures = Pictures(out)
    failed, files = 0, _find(images, pictures, Console(quiet=quiet))
    kind = "+".join(kernel.name for kernel in kernels) if len(kernels) <= 3 else f"{len(kernels)}-kernels"
    for file in files:
        try:
            if isinstance(file, DataError):
                raise file
            content = read_bytes(file)
            image = decode_image(content, 3 if colour else 1, file)
            title = str(Path(*file.parts[-2:]))
            picture, lines = filter_image(title, image, kernels, padding=padding, stride=stride)
        except DataError as error:
            failed += 1
            complain(f"error: {error}")
            continue
        written = pictures.save(picture, file, kind, content)
        show(str(file), *(f"  {line}" for line in lines), f"  {written}")
    if failed:
        raise DataError(f"{failed} of {len(files)} images could not be used")
