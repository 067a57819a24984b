"""Image files to pixels, with Pillow, as a person would see them."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cnntrain.data.images.formats import SUFFIXES, formats, what_else
from cnntrain.data.images.preprocessing import Pixels, Preprocessing
from cnntrain.errors import CnntrainError, DataError, DeviceError

MAX_BYTES = 10**9  # of memory while one image is decoded: a PNG of 48 KB can unfold to 400 megapixels
_BAND_PIXELS = 2**20  # converted at once
Image.MAX_IMAGE_PIXELS = None  # Pillow's own cap first warns, and only later refuses; ours refuses

# What a decoder holds beside the image, bytes a pixel, measured.
_WORKSPACE = {"WEBP": 13, "AVIF": 9, "JPEG2000": 20, "HEIF": 8}
_COEFFICIENTS = 6  # bytes a pixel, of a JPEG that comes in several scans, at whatever size it is decoded


def is_image_name(name: str) -> bool:
    """Whether a file is named like an image, of a format that is read here or would be with an extra."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (text, for speed)


def fit_content(
    content: bytes, preprocessing: Preprocessing, name: Path, see: Callable[[Image.Image], None] = lambda _: None
) -> Pixels:
    """The content of an image file as it is stored for the network: uint8 (stored_size, stored_size, channels).

    Args:
        content: Of the file.
        preprocessing: How it is fitted.
        name: The file's, for messages.
        see: Is shown the image before it is fitted.

    Raises:
        DataError: As `decode_image`.
        DeviceError: Likewise.
    """
    picture = decode_image(content, preprocessing.channels, name, enough_for(preprocessing))
    with faults_explained(name) as allow:
        allow(picture.width * picture.height)
        see(picture)
        return preprocessing.fit(picture)


def enough_for(preprocessing: Preprocessing) -> int:
    """The side, px, that is enough to resize from: twice what is wanted."""
    return 2 * preprocessing.stored_size


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: The file is missing, unreadable or larger than any image.
        DeviceError: There is not enough memory for it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: cannot be read: is no regular file")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path}: too large ({status.st_size:,} bytes, at most {MAX_BYTES:,})")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise _out_of_memory(path, status.st_size) from error


def decode_image(content: bytes, channels: int, name: Path, enough_px: int | None = None) -> Image.Image:
    """The content of an image file as 8-bit grey (channels 1) or RGB (channels 3).

    A JPEG is decoded at a half, a quarter or an eighth of its size where both its sides remain at least `enough_px`,
    which for a large photo takes a fraction of the time.

    The camera's EXIF orientation is applied; transparency is shown on white; 16-bit values are scaled to
    8 bits; of an animation the first frame is taken, of an icon the largest picture.

    Raises:
        DataError: The content is no image of `formats`, is damaged, or would take over `MAX_BYTES` to decode.
        DeviceError: There is not enough memory.
    """
    content = _largest_of_icon(content)
    with faults_explained(name, content) as allow, Image.open(BytesIO(content), formats=formats()) as image:
        size = f"{image.width:,} x {image.height:,} pixels"
        if image.format in ("JPEG", "MPO"):
            allow(image.width * image.height * _COEFFICIENTS, size)
        if enough_px:
            image.draft(None, (enough_px, enough_px))
        allow(_decoding_bytes(image, channels), size)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return convert(image, channels)


@contextmanager
def faults_explained(name: Path, content: bytes = b"") -> Iterator[Callable[..., None]]:
    """Tells want of memory from damage, whatever Pillow raises.

    Args:
        name: Of the file.
        content: Its content, to say what it is where it is no image.

    Yields:
        To be called with the number of bytes that what comes next will take, and with what that is.

    Raises:
        DataError: They are over `MAX_BYTES`, or the content is damaged or no image.
        DeviceError: There is not enough memory.
    """
    # Before anything is known: the decoder of WebP takes memory when the file is opened.
    wanted = MAX_BYTES if content[8:12] == b"WEBP" else 2**24 + len(content)

    def allow(num_bytes: int, what: str = "it") -> None:
        nonlocal wanted
        if num_bytes > MAX_BYTES:
            need = (
                f"{num_bytes / 10**6:,.0f} MB of memory are needed to decode {what}, at most {MAX_BYTES / 10**6:,.0f}"
            )
            raise DataError(f"{name}: too large: {need}; save it with fewer pixels")
        wanted = max(wanted, num_bytes)

    try:
        yield allow
    except CnntrainError:
        raise
    except Exception as error:  # on damaged files Pillow raises nearly every kind of exception
        if _is_short_of_memory(error, wanted):
            raise _out_of_memory(name, wanted) from error
        if isinstance(error, UnidentifiedImageError):
            raise DataError(f"{name}: {what_else(content)}") from error
        raise DataError(f"{name}: cannot be read as an image: {error or type(error).__name__}") from error


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Any Pillow image as mode L (channels 1) or RGB (channels 3), in bands, so that it is never held thrice."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and not image.has_transparency_data:
        return image
    scale = _scale_to_8_bits(image)
    rows = max(1, _BAND_PIXELS // max(1, image.width))
    if image.height <= rows:
        return _convert_band(image, mode, scale)
    whole = Image.new(mode, image.size)
    for band, top in _bands(image, rows):
        whole.paste(_convert_band(band, mode, scale), (0, top))
    return whole


def _bands(image: Image.Image, rows: int) -> Iterator[tuple[Image.Image, int]]:
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _convert_band(image: Image.Image, mode: str, scale: float | None) -> Image.Image:
    if scale is not None:  # Pillow's own conversion clips instead of scaling: a 16-bit image would come out white.
        image = Image.fromarray(np.clip(np.round(_values(image) * scale), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":  # which Pillow cannot convert to grey
        image = image.convert("RGB")
    return image.convert(mode)


def _values(image: Image.Image, infinite: float = 1e300) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Of pixels, all of them finite."""
    return np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=infinite, neginf=0)


def _scale_to_8_bits(image: Image.Image) -> float | None:
    """What the values of more than 8 bits are multiplied by; None for images of 8 bits."""
    if image.mode.startswith("I;16"):
        return 255 / 65535
    if image.mode not in ("I", "F"):
        return None
    rows = max(1, _BAND_PIXELS // max(1, image.width))
    # An infinite pixel alone must not make all others black.
    largest = max((_values(band, infinite=0).max(initial=0) for band, _ in _bands(image, rows)), default=0)
    if image.mode == "F":
        return 255.0 if largest <= 1 else 1.0
    return 255 / 65535 if largest > 255 else 1.0


def _decoding_bytes(image: Image.Image, channels: int) -> int:
    """About how much memory it takes to decode and convert an image that has been opened."""
    stored = _pixel_bytes(image.mode)
    result = 0 if image.mode == ("L" if channels == 1 else "RGB") else _pixel_bytes("L" if channels == 1 else "RGB")
    pixels = image.width * image.height
    if image.format == "TIFF":  # which is decoded tile by tile, and a tile may be larger than the image
        tags = getattr(image, "tag_v2", {})
        pixels = max(pixels, int(tags.get(322, 0)) * int(tags.get(323, 0)))
    # An image that is turned upright is held twice.
    return pixels * (stored + max(stored, result, _WORKSPACE.get(image.format or "", 0)))


def _pixel_bytes(mode: str) -> int:
    """Of memory that Pillow takes."""
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


def _largest_of_icon(content: bytes) -> bytes:
    """Of an icon whose largest picture is a PNG, that PNG; all other content as it is.

    Pillow believes the icon's table of at most 256 px a side, and what the PNG says itself may be more.
    """
    if not content.startswith(b"\0\0\1\0"):
        return content
    entries = [content[start : start + 16] for start in range(6, 6 + 16 * content[4], 16)]
    pictures = [content[int.from_bytes(entry[12:16], "little") :] for entry in entries if len(entry) == 16]
    areas = [(entry[0] or 256) * (entry[1] or 256) for entry in entries[: len(pictures)]]
    largest = pictures[areas.index(max(areas))] if pictures else b""
    return largest if largest.startswith(b"\x89PNG\r\n\x1a\n") else content


def _is_short_of_memory(error: Exception, num_bytes: int) -> bool:
    """Whether an image could not be decoded because there was no memory for it.

    The libraries behind Pillow often call that a broken file, so it is tried whether the memory can be had.
    """
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return True
    try:
        np.empty(num_bytes, dtype=np.uint8)
    except MemoryError:
        return True
    return False


def _out_of_memory(name: Path, num_bytes: int) -> DeviceError:
    return DeviceError(
        f"{name}: not enough memory to decode it (about {max(1, num_bytes // 10**6):,} MB are needed); "
        f"the image may well be in order. Close other programs, allow more memory, or lower data.num_workers, the "
        f"number of images decoded at once"
    )
