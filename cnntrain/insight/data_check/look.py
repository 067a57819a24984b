"""What can be said of each image by itself: whether it can be read, its size and kind, and what it is compared by."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from cnntrain.data.images.decode import convert, decode_image, faults_explained, read_bytes
from cnntrain.data.images.digests import is_jpeg, pixel_digest
from cnntrain.data.images.formats import formats, unread_image
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.data.images.similar import ENOUGH_PX, thumbnail
from cnntrain.data.reporter import Reporter
from cnntrain.errors import DataError
from cnntrain.insight.data_check.samples import Sample
from cnntrain.runtime.names import printable

_ORIENTATION = 0x0112  # EXIF's tag
_CHUNK, _WINDOW = 16, 4096  # images a task, and tasked at once

# How files of the usual formats begin, however little of them is left.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of an image.

    Attributes:
        fault: Why it cannot be read; empty where it can.
        is_image: Whether its beginning is that of an image, as far as it can be read.
        is_unread: Whether it is an image of a format that is not read here, such as HEIC without pillow-heif.
        format: Pillow's name, such as `JPEG`; empty for pixels of an array.
        mode: Pillow's, such as `RGB`.
        width: px, as it is stored; 0 where it is not known.
        height: px.
        has_alpha: Whether it has transparency.
        is_animated: Whether it has several frames.
        orientation: EXIF's, 1 where it is stored upright.
        file_digest: Of its bytes.
        pixel_digest: Of its pixels in RGB, upright.
        contrast: Levels between the darkest and the brightest value of a channel, at most 255.
        thumbnail: uint8 (16, 16, 3).
    """

    fault: str
    is_image: bool = False
    is_unread: bool = False
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    has_alpha: bool = False
    is_animated: bool = False
    orientation: int = 1
    file_digest: bytes = b""
    pixel_digest: bytes = b""
    contrast: int = 0
    thumbnail: Pixels | None = None


def look_at_all(samples: Sequence[Sample], num_threads: int, reporter: Reporter, *, channels: int = 3) -> list[Look]:
    """Every image, by several threads; at most one decoded image for each is held.

    Args:
        samples: Which.
        num_threads: How many decode at once.
        reporter: Shows a bar.
        channels: See `look_at`.
    """
    is_mixed = not all(is_jpeg(sample.content) for sample in samples if isinstance(sample.content, Path))

    def look_at_some(start: int) -> list[Look]:
        return [look_at(sample, channels=channels, is_mixed=is_mixed) for sample in samples[start : start + _CHUNK]]

    looks: list[Look] = []
    # A future for each of a million images would take more memory than what is seen of them.
    windows = range(0, len(samples), _WINDOW)
    with ThreadPoolExecutor(num_threads) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in files, to no one's use
        starts = (range(start, min(start + _WINDOW, len(samples)), _CHUNK) for start in windows)
        in_order = chain.from_iterable(chain.from_iterable(pool.map(look_at_some, window)) for window in starts)
        looks.extend(reporter.progress(in_order, len(samples), "looking at images"))
    return looks


def look_at(sample: Sample, *, channels: int = 3, is_mixed: bool = True) -> Look:
    """One image; what is wrong with it stands in `fault`.

    Args:
        sample: Which.
        channels: 1 where training sees grey, in which a colour image and its grey version have the same pixels.
        is_mixed: Whether images of other formats may have the same pixels as a JPEG.
    """
    if not isinstance(sample.content, Path):
        picture = Image.fromarray(sample.content)
        digest = _digest(sample.content.tobytes())
        head = Look("", True, mode=picture.mode, width=picture.width, height=picture.height)
        return _seen(picture if picture.mode == "RGB" else picture.convert("RGB"), head, digest, digest)
    try:
        content = read_bytes(sample.content)
    except DataError as error:
        return Look(_without_path(error, sample.content), is_image=True)
    digest = _digest(content)
    try:
        with faults_explained(sample.content, content):
            head = _read_header(content)
    except DataError as error:
        begins_well = content.startswith(_BEGINNINGS)
        fault = "cut off or damaged in its first part" if begins_well else _without_path(error, sample.content)
        unread = bool(unread_image(content))
        return Look(fault, is_image=begins_well or unread, is_unread=unread, file_digest=digest)
    try:
        picture = decode_image(content, 3, sample.content, ENOUGH_PX)
        trained_on = convert(picture, channels)
        pixels = pixel_digest(trained_on, content, sample.content, channels, ENOUGH_PX, whole=is_mixed)
    except DataError as error:
        return replace(head, fault=_without_path(error, sample.content), file_digest=digest)
    return _seen(picture, head, digest, pixels)


def open_picture(sample: Sample, side: int) -> Image.Image:
    """An image to be shown, in RGB, at most `side` px wide and high.

    Raises:
        DataError: It cannot be read.
    """
    if isinstance(sample.content, Path):
        picture = decode_image(read_bytes(sample.content), 3, sample.content, side)
    else:
        picture = convert(Image.fromarray(sample.content), 3)
    picture.thumbnail((side, side))
    return picture


def _read_header(content: bytes) -> Look:
    with Image.open(BytesIO(content), formats=formats()) as image:
        # Of a PNG, getexif decodes the image, unless its EXIF data stand before it.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        return Look(
            "",
            is_image=True,
            format=image.format or "",
            mode=image.mode,
            width=image.width,
            height=image.height,
            has_alpha=image.has_transparency_data,
            is_animated=getattr(image, "is_animated", False),
            orientation=exif.get(_ORIENTATION, 1),
        )


def _seen(picture: Image.Image, head: Look, file_digest: bytes, pixels: bytes) -> Look:
    """What decoding, to RGB, adds to what the header says."""
    extrema: Any = picture.getextrema()  # of each channel
    return replace(
        head,
        file_digest=file_digest,
        pixel_digest=pixels,
        contrast=max(high - low for low, high in extrema),
        thumbnail=thumbnail(picture),
    )


def _without_path(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{printable(path)}: ")


def _digest(content: bytes) -> bytes:
    return sha256(content).digest()
