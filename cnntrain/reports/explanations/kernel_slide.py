"""The picture of `cnntrain filter`: an image, kernels as tables, and what they make of it."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cnntrain.insight.kernels import Kernel, Shown
from cnntrain.reports.explanations.drawing import (
    INK,
    LINE,
    SOFT,
    below,
    beside,
    one_line,
    text_picture,
    widened,
    with_margin,
)

SIDE = 400  # of an image, px: larger ones are made smaller
_TABLE = 260  # of a kernel


class Filtered(NamedTuple):
    """What a kernel made of the image."""

    kernel: Kernel
    shown: Shown


def kernel_slide(title: str, pixels: npt.NDArray[np.uint8], rows: Sequence[Filtered], settings: str) -> Image.Image:
    """A row for each kernel: the image, the kernel, the result, enlarged alike.

    Args:
        title: What the image is called.
        pixels: uint8 (H, W, C), at most `SIDE` px.
        rows: What to show.
        settings: Padding and stride, for people.
    """
    factor = max(1, SIDE // max(pixels.shape[:2]))
    parts = [_row(pixels, row, factor) for row in rows]
    notes = f"Cross-correlation, as nn.Conv2d computes it, of values from 0 (black) to 1 (white). {settings}."
    width = max(part.width for part in parts)
    return with_margin(below([one_line(title, 28, width), *parts, text_picture(notes, 16, SOFT, width=width)], gap=26))


def _row(pixels: npt.NDArray[np.uint8], row: Filtered, factor: int) -> Image.Image:
    image, result = _enlarged(pixels, factor), _enlarged(row.shown.pixels, factor)
    height, width = pixels.shape[:2]
    new_height, new_width = row.shown.pixels.shape[:2]
    room = max(result.width, 360)
    return beside(
        [
            below([one_line(f"Image, {width} x {height} px", 18, max(image.width, 200)), image]),
            widened(below([one_line(row.kernel.name, 18, _TABLE), kernel_table(row.kernel.weights)]), _TABLE),
            below(
                [
                    one_line(f"Result, {new_width} x {new_height} px", 18, room),
                    result,
                    text_picture(row.shown.how, 16, SOFT, width=room),
                ]
            ),
        ],
        gap=32,
    )


def _enlarged(pixels: npt.NDArray[np.uint8], factor: int) -> Image.Image:
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).convert("RGB")
    framed = Image.new("RGB", (picture.width * factor + 2, picture.height * factor + 2), LINE)
    framed.paste(picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST), (1, 1))
    return framed


def kernel_table(weights: Tensor) -> Image.Image:
    """The numbers of a kernel, float (kh, kw), in cells: orange above 0, blue below; of a large one the cells alone."""
    height, width = weights.shape
    cell = max(8, min(64, _TABLE // max(height, width)))
    texts = [[kernel_number(float(value)) for value in row] for row in weights]
    sheet = Image.new("RGB", (cell * width + 1, cell * height + 1), LINE)
    draw, largest = ImageDraw.Draw(sheet), max(float(weights.abs().max()), 1e-12)
    longest = max((text for row in texts for text in row), key=len)
    sizes = [size for size in range(22, 9, -1) if ImageFont.load_default(size=size).getlength(longest) <= cell - 6]
    for (y, x), value in np.ndenumerate(weights.numpy()):
        colour = _tint(float(value) / largest)
        draw.rectangle((x * cell + 1, y * cell + 1, (x + 1) * cell - 1, (y + 1) * cell - 1), fill=colour)
        if sizes:
            middle = (x * cell + cell / 2, y * cell + cell / 2)
            draw.text(middle, texts[y][x], fill=INK, font=ImageFont.load_default(size=sizes[0]), anchor="mm")
    return sheet


def _tint(level: float) -> tuple[int, int, int]:
    full = (247, 168, 110) if level > 0 else (130, 178, 240)
    red, green, blue = (round(255 + (channel - 255) * abs(level)) for channel in full)
    return red, green, blue


def kernel_number(value: float) -> str:
    """0.04 -> `1/25`, 2.0 -> `2`, 0.123456 -> `0.123456`."""
    simple = Fraction(value).limit_denominator(99)
    known = abs(simple) < 1 and abs(float(simple) - value) < 1e-6 * max(abs(value), 1e-3)
    return str(simple) if known else f"{value:.7g}"
