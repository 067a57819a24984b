"""How much of images that are no squares `resize: crop` takes away."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from PIL import Image

from cnntrain.data.images.folder_part import FolderPart
from cnntrain.data.images.formats import formats
from cnntrain.data.source import Part

ADVICE = "data.resize: letterbox keeps all of them, with black borders; squash keeps all, out of proportion"
SOME, MUCH = 0.2, 0.4  # shares of the area that are worth a word, and a warning; photos of 4:3 lose a quarter
_SAMPLE = 64  # images whose sizes are looked at when training starts: some milliseconds


def cut_share(width: int, height: int) -> float:
    """The share of an image's area, 0 to 1, that is not in its central square; sizes in px."""
    return 1 - min(width, height) / max(width, height, 1)


class Cut(NamedTuple):
    """What is cut away: on average, and of the image that loses most; shares of the area."""

    mean: float
    worst: float
    example: str

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"data.resize: crop cuts {100 * self.mean:.0f} % of the images' area away on average, "
            f'and at worst {100 * self.worst:.0f} % ("{self.example}")'
        )


def measure_cut(sizes: Iterable[tuple[str, int, int]]) -> Cut | None:
    """What is cut away of images, given by name, width and height in px; None where there are none."""
    shares = [(cut_share(width, height), name) for name, width, height in sizes]
    if not shares:
        return None
    worst, example = max(shares)
    return Cut(fmean(share for share, _ in shares), worst, example)


def cut_notices(part: Part, resize: str) -> list[str]:
    """A sentence where `SOME` of the area of a part's images is cut away, or more, as far as a sample of them shows it.

    Only files are looked at, and of them only what stands before their pixels: images of an array are of one size.
    """
    if resize != "crop" or not isinstance(part, FolderPart):
        return []
    looked_at = min(_SAMPLE, len(part.files))
    names = [part.files[number * len(part.files) // looked_at] for number in range(looked_at)]  # of all classes
    cut = measure_cut(_sizes(part.folder, names))
    if cut is None or cut.mean < SOME:
        return []
    among = f" ({len(names)} of {len(part.files):,} images were looked at)" if len(names) < len(part.files) else ""
    return [f"{cut.text}{among}; {ADVICE}"]


def _sizes(folder: Path, names: Sequence[str]) -> Iterable[tuple[str, int, int]]:
    for name in names:
        if not os.path.isfile(f"{folder}/{name}"):  # noqa: PTH113 (opening a pipe would wait)
            continue
        try:
            with Image.open(folder / name, formats=formats()) as image:
                yield name, *image.size
        except Exception:  # on damaged files Pillow raises nearly every kind of exception  # noqa: S112
            continue  # told where they are decoded
