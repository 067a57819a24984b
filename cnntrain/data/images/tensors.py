"""Small operations on batches of images, (B, C, H, W), and boxes in them, that augmentations share."""

import math
from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnntrain.config.section import check_ascending
from cnntrain.data.pipeline import Table


def centre_crop(images: Tensor, size: int) -> Tensor:
    """(N, C, H, W) -> (N, C, size, size), any dtype."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]


def unit_float(images: Tensor) -> Tensor:
    """uint8, or float32 in [0, 1] already -> float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


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


def box(sides: Tensor, places: Tensor, size: int) -> Tensor:
    """Masks (B, 1, size, size), true in a box of (width, height) `sides` at `places`, all in [0, 1] (B, 2)."""
    starts = places * (1 - sides) * size
    ends = starts + sides * size
    centres = torch.arange(size, device=sides.device) + 0.5
    inside = (centres >= starts[:, :, None]) & (centres < ends[:, :, None])  # (B, 2, size)
    return (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]


def resample(images: Tensor, theta: Tensor, size: int, outside: str = "zeros") -> Tensor:
    """float32 (B, C, size, size): output pixel p shows input place theta p (B, 2, 3), both in [-1, 1]."""
    # F.affine_grid does the same by a product of matrices, with inner sides of 3 and 2, and takes twenty times as long.
    centres = (2 * torch.arange(size, device=theta.device) + 1) / size - 1
    per_row = theta[:, :, 1, None] * centres + theta[:, :, 2, None]  # (B, 2, size)
    grid = per_row[..., None] + theta[:, :, 0, None, None] * centres  # (B, 2, size, size), x and y
    return F.grid_sample(
        unit_float(images), grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode=outside, align_corners=False
    )


# In a step of a small network it is the number of operations that counts: what is the same in every step is kept.
@lru_cache(maxsize=16)
def arange(num_images: int, device: torch.device) -> Tensor:
    """The numbers of a batch's images, int64 (num_images,)."""
    return torch.arange(num_images, device=device)


@cache
def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Constants float32 (1, C, 1, 1), sent to the device once, because sending them again would make it wait."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
