"""Image files to pixels, with Pillow, as a person would see them."""

import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cnntrain.data.preprocessing import Pixels, Preprocessing
from cnntrain.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"))
MAX_PIXELS = 100_000_000  # a PNG of 48 KB can unfold to 400 megapixels
Image.MAX_IMAGE_PIXELS = None  # Pillow's own cap first warns, and only later refuses; ours refuses


def is_image_name(name: str) -> bool:
    """Whether a file is named like an image of one of the formats read here."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (text, for speed)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not see, such as .DS_Store or __MACOSX."""
    return name.startswith((".", "__"))


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
    """
    picture = decode_image(content, preprocessing.channels, name, enough_for(preprocessing))
    see(picture)
    return preprocessing.fit(picture)


def enough_for(preprocessing: Preprocessing) -> int:
    """The side, px, that is enough to resize from: twice what is wanted."""
    return 2 * preprocessing.stored_size


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: The file is missing or unreadable.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: cannot be read: is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def decode_image(content: bytes, channels: int, name: Path, enough_px: int | None = None) -> Image.Image:
    """The content of an image file as 8-bit grey (channels 1) or RGB (channels 3).

    A JPEG is decoded at a half, a quarter or an eighth of its size where both its sides remain at least `enough_px`,
    which for a large photo takes a fraction of the time.

    The camera's EXIF orientation is applied; transparency is shown on white; 16-bit values are scaled to
    8 bits; of an animation the first frame is taken.

    Raises:
        DataError: The content is no image of `FORMATS`, is damaged, or has over `MAX_PIXELS`.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{name}: too large ({width} x {height}, at most {MAX_PIXELS:,} pixels)")
            if enough_px:
                image.draft(None, (enough_px, enough_px))
            image.load()
            return convert(ImageOps.exif_transpose(image), channels)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image ({', '.join(FORMATS)} are read)") from error
    except Exception as error:  # on damaged files Pillow raises nearly every kind of exception
        raise DataError(f"{name}: cannot be read as an image: {error or type(error).__name__}") from error


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Any Pillow image as mode L (channels 1) or RGB (channels 3)."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips instead of scaling: a 16-bit image would come out white.
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
    else:
        scale = 255 / 65535 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 1.0
    return Image.fromarray(np.clip(np.round(values * scale), 0, 255).astype(np.uint8))
