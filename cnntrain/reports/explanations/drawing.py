"""What the pictures of this room share: texts, bars, legends, and parts put together on white."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnntrain.runs.pictures import heat_colours, heat_strip, shorten
from cnntrain.runtime.names import printable

INK, SOFT, PAPER, LINE, ACCENT = (28, 31, 36), (89, 97, 109), (255, 255, 255), (217, 221, 227), (31, 91, 171)
MARGIN, GAP = 28, 24
_BAR = (203, 210, 219)


def text_picture(text: str, size: int = 18, ink: tuple[int, int, int] = INK, *, width: int = 0) -> Image.Image:
    """Text on white, as wide as it needs.

    Args:
        text: May have several lines; what cannot be shown is written out, as `printable` does.
        size: Of the font, px.
        ink: Its colour.
        width: Where given, longer lines are broken to fit, px.
    """
    font = ImageFont.load_default(size=size)
    lines = [printable(line) for line in text.split("\n")]
    if width:
        letters = max(8, int(width / font.getlength("abcdefghij klmnopqrst") * 21))
        lines = [part for line in lines for part in textwrap.wrap(line, letters)]
    lines = [shorten(line, width, font) if width else line for line in lines]
    pitch = round(1.35 * size)
    wide = max((font.getlength(line) for line in lines), default=0)
    sheet = Image.new("RGB", (width or int(wide) + 2, pitch * len(lines)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((0, number * pitch + pitch // 2), line, fill=ink, font=font, anchor="lm")
    return sheet


def one_line(text: str, size: int, width: int) -> Image.Image:
    """Text on one line; the middle is cut out of one that is too long."""
    return text_picture(shorten(text, width, ImageFont.load_default(size=size)), size)


def ranking(ranked: Sequence[tuple[str, float]], marked: str, *, top: int, width: int = 380) -> Image.Image:
    """Classes with a bar for each probability.

    Args:
        ranked: (class, probability), likeliest first.
        marked: The class to stand out; added below where it is not among the first.
        top: How many classes.
        width: Of the picture, px.
    """
    rows = list(ranked[:top]) + [row for row in ranked[top:] if row[0] == marked]
    font, pitch = ImageFont.load_default(size=18), 52
    sheet = Image.new("RGB", (width, pitch * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (name, share) in enumerate(rows):
        top_px, ink, bar = number * pitch, *((ACCENT, ACCENT) if name == marked else (INK, _BAR))
        figure = f"{100 * share:.2f} %"
        room = width - int(font.getlength(figure)) - 12
        draw.text((0, top_px + 12), shorten(name, room, font), fill=ink, font=font, anchor="lm")
        draw.text((width, top_px + 12), figure, fill=ink, font=font, anchor="rm")
        draw.rectangle((0, top_px + 26, width - 1, top_px + 37), fill=(240, 242, 245))
        if round(share * width):
            draw.rectangle((0, top_px + 26, round(share * width) - 1, top_px + 37), fill=bar)
    return sheet


def legend(left: str, right: str, *, signed: bool, on_image: bool, width: int = 200) -> Image.Image:
    """The colours of heat between what their ends mean; from 0 where nothing is below it.

    Args:
        left: What the least level means.
        right: What the greatest level means.
        signed: Whether levels go from -1, not from 0.
        on_image: Whether they lie on an image in grey, as in `heat_overlay`, and not on black.
        width: Of the colours, px.
    """
    levels = np.linspace(-1 if signed else 0, 1, width, dtype=np.float32)[None].repeat(14, axis=0)
    strip = heat_strip(levels) if on_image else Image.fromarray(heat_colours(levels).round().astype(np.uint8))
    return beside([text_picture(left, 16, SOFT), strip, text_picture(right, 16, SOFT)], gap=8, centred=True)


def beside(parts: Sequence[Image.Image], *, gap: int = GAP, centred: bool = False) -> Image.Image:
    """Parts from left to right, their upper edges or their middles in line."""
    height = max(part.height for part in parts)
    sheet = Image.new("RGB", (sum(part.width for part in parts) + gap * (len(parts) - 1), height), PAPER)
    left = 0
    for part in parts:
        sheet.paste(part, (left, (height - part.height) // 2 if centred else 0))
        left += part.width + gap
    return sheet


def below(parts: Sequence[Image.Image], *, gap: int = 10) -> Image.Image:
    """Parts from top to bottom, their left edges in line."""
    height = sum(part.height for part in parts) + gap * (len(parts) - 1)
    sheet = Image.new("RGB", (max(part.width for part in parts), height), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height + gap
    return sheet


def widened(picture: Image.Image, width: int) -> Image.Image:
    """The same with white on its right, px."""
    return beside([picture, Image.new("RGB", (max(0, width - picture.width), 1), PAPER)], gap=0)


def with_margin(picture: Image.Image) -> Image.Image:
    """The same with white around it."""
    sheet = Image.new("RGB", (picture.width + 2 * MARGIN, picture.height + 2 * MARGIN), PAPER)
    sheet.paste(picture, (MARGIN, MARGIN))
    return sheet
