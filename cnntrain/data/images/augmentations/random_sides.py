"""Boxes of random size, as crops and erased rectangles have them."""

import math

import numpy as np

from cnntrain.config.section import check_ascending
from cnntrain.data.pipeline import Table


def random_sides(
    rng: np.random.Generator, num_images: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Table:
    """Width and height, fractions in (0, 1], of boxes of random area and (log-uniformly) random aspect ratio."""
    area = rng.uniform(*scale, num_images)
    aspect = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), num_images))
    sides: Table = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1)
    return sides.clip(max=1.0)


def check_box(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Raises ValueError where the options of a box are written the wrong way round, or it is larger than its image."""
    check_ascending(scale, "scale")
    check_ascending(ratio, "ratio")
    if scale[1] > 1:
        raise ValueError(f"scale is a fraction of the image's area, at most 1 (got {list(scale)})")
