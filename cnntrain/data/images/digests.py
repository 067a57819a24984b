"""What stands for an image in comparisons: the digest of its pixels, whatever its file is."""

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from cnntrain.data.images.decode import decode_image

_JPEG = b"\xff\xd8"  # how each one begins


def is_jpeg(path: Path) -> bool:
    """Whether a file begins as a JPEG does, whatever its name; true of one that cannot be read, which has no copies."""
    try:
        if not path.is_file():  # a pipe would wait for its writer
            return True
        with path.open("rb", buffering=0) as file:
            return file.read(len(_JPEG)) == _JPEG
    except OSError:
        return True


def pixel_digest(
    picture: Image.Image, content: bytes, name: Path, channels: int, enough_px: int, *, whole: bool
) -> bytes:
    """The sha256 of an image's size and pixels.

    Large JPEGs are decoded smaller, all in the same way, so that copies stay copies; a PNG of the same pixels is not.

    Args:
        picture: What `decode_image` made of it.
        whole: Decode a JPEG once more where the picture is smaller than it: eight times as long for a photo of 12
            megapixels, and only needed where files of other formats are among them.
        content: Of its file.
        name: The file's.
        channels: 1 or 3.
        enough_px: What `decode_image` was given.
    """
    if whole and min(picture.size) >= enough_px and content.startswith(_JPEG):
        with Image.open(BytesIO(content), formats=("JPEG",)) as full:
            if max(full.size) > max(picture.size):
                picture = decode_image(content, channels, name)
    return hashlib.sha256(f"{picture.width}x{picture.height} ".encode() + picture.tobytes()).digest()
