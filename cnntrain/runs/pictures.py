"""Pictures, drawn with Pillow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cnntrain.runtime.names import printable, shortened
from cnntrain.tasks.metrics import Confusion

_INK, _PAPER, _BLUE, _LINE = (30, 30, 30), (255, 255, 255), (31, 91, 171), (200, 200, 200)
_MOST_SQUARES = 450  # of a side of a confusion matrix
_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def image_grid(
    images: npt.NDArray[np.uint8], captions: Sequence[str] = (), *, columns: int = 8, min_side: int = 96
) -> Image.Image:
    """Images in rows, small ones enlarged, each with its caption below.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3.
        captions: N texts (lines parted by newlines), or none.
        columns: Images in a row.
        min_side: Least side of an image, px.
    """
    side = max(min_side, images.shape[1])
    num_lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    height = side + (14 * num_lines + 6 if captions else 0)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + 4) + 4, rows * (height + 4) + 4), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for index, pixels in enumerate(images):
        left, top = 4 + index % columns * (side + 4), 4 + index // columns * (height + 4)
        picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
        sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (left, top))
        if captions:
            lines = [shorten(line, side, font) for line in captions[index].split("\n")]
            draw.multiline_text((left, top + side + 1), "\n".join(lines), fill=_INK, font=font, spacing=2)
    return sheet


def confusion_picture(confusion: Confusion, class_names: Sequence[str]) -> Image.Image:
    """A confusion matrix, rows the truth with their images; the darker, the larger the share of its row.

    Of more than `_MOST_SQUARES` classes, neighbours share a square, so that the picture stays small.

    Args:
        confusion: Of K classes.
        class_names: K names.
    """
    together = -(-confusion.num_classes // _MOST_SQUARES)
    num_squares, font = -(-confusion.num_classes // together), ImageFont.load_default(size=12)
    cell = max(14 if num_squares <= 120 else 2, min(56, 900 // num_squares))
    labelled = cell >= 14
    support = confusion.support.tolist()
    row_names = [f"{printable(name)[:100]} ({count:,})" for name, count in zip(class_names, support, strict=True)]
    margin = 20 + (min(150, int(max(map(font.getlength, row_names))) + 12) if labelled else 0)
    counts = np.zeros((num_squares, num_squares), dtype=np.int64)
    np.add.at(counts, (confusion.targets // together, confusion.predictions // together), confusion.counts)
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[..., None]
    colours = np.round(np.array(_PAPER) * (1 - shares) + np.array(_BLUE) * shares).astype(np.uint8)
    matrix = Image.fromarray(colours).resize((cell * num_squares,) * 2, Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (max(220, margin + matrix.width + 12), margin + matrix.height + 12), _PAPER)
    sheet.paste(matrix, (margin, margin))
    draw = ImageDraw.Draw(sheet)
    title = "rows: true, columns: predicted" + (f"; {together} classes a square" if together > 1 else "")
    draw.text((sheet.width // 2, 2), title, fill=_INK, font=font, anchor="ma")
    if labelled:
        _label_axes(sheet, row_names, class_names, cell, margin, font)
    draw.rectangle((margin - 1, margin - 1, margin + matrix.width, margin + matrix.height), outline=_LINE)
    if cell >= 26:
        for row, column in np.argwhere(counts):
            ink = _PAPER if shares[row, column, 0] > 0.7 else _INK
            middle = (margin + (column + 0.5) * cell, margin + (row + 0.5) * cell)
            draw.text(middle, str(counts[row, column]), fill=ink, font=font, anchor="mm")
    return sheet


def heat_overlay(
    pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32], *, min_side: int = 96, smooth: bool = True
) -> Image.Image:
    """An image in grey under a map of heat: the colours of `heat_colours`, where there is none the image alone.

    Args:
        pixels: uint8 (H, W, C), C 1 or 3.
        heat: float32 (h, w); scaled by its largest magnitude.
        min_side: Smaller images are enlarged to it, px.
        smooth: Enlarge the heat smoothly, not as sharp squares.
    """
    picture = as_picture(pixels, min_side)
    shares = Image.fromarray((heat / max(float(np.abs(heat).max()), 1e-12)).astype(np.float32))
    shares = shares.resize(picture.size, Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST)
    # Neither quite black nor quite white, so that dark and light colours are seen on it.
    grey = 40 + 0.75 * np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    return _glazed(grey, np.asarray(shares).clip(-1, 1))


def heat_strip(levels: npt.NDArray[np.floating[Any]]) -> Image.Image:
    """The colours that levels from -1 to 1, (H, W), have in `heat_overlay` on an image of mid-grey."""
    return _glazed(np.full((*levels.shape, 3), 136.0), levels)


def _glazed(grey: npt.NDArray[np.floating[Any]], levels: npt.NDArray[np.floating[Any]]) -> Image.Image:
    """Grey (H, W, 3) of 0 to 255 under the colours of levels (H, W), the denser the further these are from 0."""
    opacity = 0.8 * np.abs(levels)[..., None] ** 0.75
    return Image.fromarray((grey * (1 - opacity) + heat_colours(levels) * opacity).round().astype(np.uint8))


def heat_colours(levels: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Levels from -1 to 1, of any shape, as RGB of 0 to 255: light blue over black (0) to red, orange and yellow."""
    return np.stack([np.interp(levels, _HEAT_AT, channel) for channel in np.array(_HEAT).T], axis=-1)


_HEAT_AT = (-1, -0.8, -0.5, 0, 0.5, 0.8, 1)
_HEAT = ((190, 235, 255), (80, 165, 250), (25, 75, 190), (0, 0, 0), (200, 40, 30), (250, 150, 20), (255, 240, 120))


def as_picture(pixels: npt.NDArray[np.uint8], min_side: int = 96) -> Image.Image:
    """Pixels uint8 (H, W, C), C 1 or 3, in RGB; a small one is enlarged by a whole number, its squares sharp."""
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).convert("RGB")
    factor = -(-min_side // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _label_axes(
    sheet: Image.Image, row_names: Sequence[str], class_names: Sequence[str], cell: int, margin: int, font: _Font
) -> None:
    draw = ImageDraw.Draw(sheet)
    for index, name in enumerate(class_names):
        middle = margin + index * cell + cell / 2
        of_row, of_column = (shorten(text, margin - 20, font) for text in (row_names[index], name))
        draw.text((margin - 4, middle), of_row, fill=_INK, font=font, anchor="rm")
        label = Image.new("RGB", (margin - 16, 16), _PAPER)
        ImageDraw.Draw(label).text((2, 8), of_column, fill=_INK, font=font, anchor="lm")
        sheet.paste(label.rotate(90, expand=True), (int(middle) - 8, 16))
        edge, end = margin + index * cell, margin + cell * len(class_names)
        draw.line((margin, edge, end, edge), fill=_LINE)
        draw.line((edge, margin, edge, end), fill=_LINE)


def shorten(text: str, width: int, font: _Font) -> str:
    """Cuts the middle out of a text that is too long, because names often begin alike and paths end differently.

    What cannot be shown (a line end could not even be measured) is written out, as `printable` does.
    """
    text = shortened(text, max(3, int(width)))  # a letter takes a pixel or more, and long texts are slow to measure
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}") > width:
        kept -= 1
    return f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
