"""`cnntrain filter`: shows what a convolution does to images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.images import ImagesArgument, PicturesOption, files_to_draw
from cnntrain.cli.options import QuietOption
from cnntrain.cli.output import complain, show
from cnntrain.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    from cnntrain.insight.kernels import Kernel


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
    out: PicturesOption = Path("explanations"),
    quiet: QuietOption = False,
) -> None:
    """Show what one convolution does to an image: the image, the kernel and the result side by side.

    Examples:
        cnntrain filter photo.jpg --kernel sobel-x
        cnntrain filter photo.jpg --kernel blur --kernel sharpen --kernel '[[-1, 1], [-1, 1]]' --colour
    """
    from cnntrain.insight.kernels import PADDINGS, parse_kernel
    from cnntrain.reports.explanations.saving import Pictures
    from cnntrain.runs.console import Console

    if padding not in PADDINGS:
        raise typer.BadParameter(f"{padding!r} is no padding (allowed: {', '.join(PADDINGS)})", param_hint="--padding")
    kernels = [parse_kernel(text) for text in kernel]
    pictures = Pictures(out)
    failed, files = 0, files_to_draw(images, pictures, Console(quiet=quiet))
    for file in files:
        try:
            if isinstance(file, DataError):
                raise file
            content, picture, lines = _filter_file(file, kernels, padding=padding, stride=stride, colour=colour)
        except DataError as error:
            failed += 1
            complain(f"error: {error}")
            continue
        written = pictures.save(picture, file, _kind(kernels), content)
        show(str(file), *(f"  {line}" for line in lines), f"  {written}")
    if failed:
        raise DataError(f"{failed} of {len(files)} images could not be used")


def _filter_file(
    file: Path, kernels: "list[Kernel]", *, padding: str, stride: int, colour: bool
) -> "tuple[bytes, Image.Image, list[str]]":
    """What a file holds, the picture of its filtering, and what that shows in words."""
    from cnntrain.data.images.decode import decode_image, read_bytes
    from cnntrain.reports.explanations.filtering import filter_image

    content = read_bytes(file)
    image = decode_image(content, 3 if colour else 1, file)
    title = str(Path(*file.parts[-2:]))
    return content, *filter_image(title, image, kernels, padding=padding, stride=stride)


def _kind(kernels: "list[Kernel]") -> str:
    """What to call pictures of these kernels, in names of files."""
    return "+".join(kernel.name for kernel in kernels) if len(kernels) <= 3 else f"{len(kernels)}-kernels"
