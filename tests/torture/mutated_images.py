"""Reads damaged images, as many as it is told, and prints how it went; a crash would end this process."""

import io
import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from cnntrain.data.images.decode import fit_content
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.errors import DataError


def originals() -> list[bytes]:
    """JPEG, PNG, GIF, WebP and others, in several modes."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 50, 4), dtype=np.uint8)
    made = []
    for mode, kinds in {
        "RGB": ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"],
        "L": ["JPEG", "PNG", "TIFF"],
        "RGBA": ["PNG", "WEBP"],
        "CMYK": ["JPEG", "TIFF"],
    }.items():
        channels = {"RGB": 3, "L": 1}.get(mode, 4)
        pixels = noise[..., :channels].squeeze(-1) if channels == 1 else noise[..., :channels]
        made += [saved(Image.fromarray(np.ascontiguousarray(pixels), mode), kind) for kind in kinds]
    wide = Image.fromarray(rng.integers(0, 65535, (40, 50), dtype=np.uint16))
    return [*made, saved(wide, "PNG"), saved(wide, "TIFF"), saved(Image.fromarray(noise[..., :3]).quantize(16), "PNG")]


def saved(image: Image.Image, kind: str) -> bytes:
    """As a file's content."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, overwritten."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if not changed:
            break
        at = rng.randrange(len(changed)) if rng.random() < 0.6 else rng.randrange(min(64, len(changed)))
        match rng.randrange(5):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = rng.randbytes(rng.randint(1, 20))
            case 3:
                changed[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
            case _:
                changed += changed[at:]
    return bytes(changed)


def main(count: int) -> None:
    """Prints how many were read, and how many refused by name."""
    rng, samples, found = random.Random(5), originals(), {"images": 0, "read": 0, "refused": 0, "unnamed": 0}
    contents = [*samples, b"", b"\0" * 100, *(mutated(rng.choice(samples), rng) for _ in range(count))]
    for number, content in enumerate(contents):
        name = Path(f"image{number}.jpg")
        for channels in (1, 3):
            try:
                with warnings.catch_warnings(action="ignore"):
                    fitted = fit_content(content, Preprocessing(channels, 16, 16, "crop", (0.5,), (0.5,)), name)
                assert fitted.shape == (16, 16, channels)
                ok = True
            except DataError as error:
                ok = False
                found["unnamed"] += name.name not in str(error)
        found["images"] += 1
        found["read" if ok else "refused"] += 1
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
