"""Images that are there more than once: those with the same pixels, whatever their files are."""

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from cnntrain.data.decode import decode_image


def pixel_digest(picture: Image.Image, content: bytes, name: Path, channels: int, enough_px: int) -> bytes:
    """The sha256 of an image's size and pixels, as `decode_image` gives them in full size.

    Args:
        picture: What `decode_image` made of it; where that is smaller than the image, it is decoded once more.
        content: Of its file.
        name: The file's.
        channels: 1 or 3.
        enough_px: What `decode_image` was given.
    """
    if min(picture.size) >= enough_px and content.startswith(b"\xff\xd8"):
        with Image.open(BytesIO(content), formats=("JPEG",)) as whole:
            if max(whole.size) > max(picture.size):
                picture = decode_image(content, channels, name)
    return hashlib.sha256(f"{picture.width}x{picture.height} ".encode() + picture.tobytes()).digest()
