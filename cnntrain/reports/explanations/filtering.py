"""One image through some kernels: from its pixels to a picture and to lines of text."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from cnntrain.insight.kernels import Kernel, convolve, show
from cnntrain.reports.explanations.kernel_slide import SIDE, Filtered, kernel_number, kernel_slide


def filter_image(
    title: str, image: Image.Image, kernels: Sequence[Kernel], *, padding: str, stride: int
) -> tuple[Image.Image, list[str]]:
    """A slide with a row for each kernel, and what the command prints.

    Args:
        title: What the image is called.
        image: Of mode L or RGB; a large one is made smaller first, so that single pixels can be seen.
        kernels: At least one.
        padding: See `convolve`.
        stride: See `convolve`.

    Raises:
        DataError: The image is too small for a kernel.
    """
    lines, before = [], image.size
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    if image.size != before:
        lines.append(f"made smaller, from {before[0]} x {before[1]} to {image.width} x {image.height} px")
    pixels = np.array(image).reshape(image.height, image.width, -1)
    values = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    rows = []
    for kernel in kernels:
        result = convolve(values, kernel.weights, padding=padding, stride=stride, name=title)
        rows.append(Filtered(kernel, show(result, kernel.weights)))
        lines.append(f"{kernel.name}: {image.width} x {image.height} -> {result.shape[2]} x {result.shape[1]} px")
        texts = [[kernel_number(float(value)) for value in row] for row in kernel.weights]
        width = max(len(text) for row in texts for text in row)
        lines += ["  " + " ".join(f"{text:>{width}}" for text in row) for row in texts]
    around = {"zero": "Zeros around the image", "reflect": "The image mirrored at its edges", "none": "No padding"}
    return kernel_slide(title, pixels, rows, f"{around[padding]}, stride {stride}"), lines
