"""Augmentation of whole batches, on the device that trains.

Each augmentation draws its random numbers once per epoch, as a table with a row for each position in the
epoch's order; a batch takes its rows. So the same images come out whatever the batch size or device.
Images are (B, C, H, W), uint8 as stored or float32 in [0, 1]; what needs fractions makes them float.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cnntrain.data.preprocessing import centre_crop, per_channel

Table = npt.NDArray[Any]  # float64, or int64 where the numbers are whole


class Augmentation(Protocol):
    """One random change of images."""

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """A row of random numbers for each image: (num_images, k), k fixed."""

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changes a batch by its rows, float32 or int64 (B, k)."""


@dataclass(frozen=True)
class CentreCrop:
    """Cuts out `size` px in the middle; nothing is random."""

    size: int

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """No numbers."""
        return np.empty((num_images, 0))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, size, size)."""
        return centre_crop(images, self.size)


@dataclass(frozen=True)
class RandomCrop:
    """Pads images of `input_size` px with black, then cuts out `size` px at a random place."""

    size: int
    padding: int
    input_size: int

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Where the crop starts in the padded image, in pixels: row x width + column."""
        width = self.input_size + 2 * self.padding
        places = np.floor(rng.random((num_images, 2)) * (width - self.size + 1)).astype(np.int64)
        starts: Table = places @ np.array([[width], [1]])
        return starts

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, size, size)."""
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, *(self.padding,) * 4)).contiguous()
        num_images, _, width, channels = padded.shape
        # A row of a crop is one run of bytes, and there is a view with all such runs, which overlap: picking from it
        # copies whole rows, ten times as fast as picking pixels.
        runs = padded.as_strided((num_images * width**2 - self.size + 1, self.size * channels), (channels, 1))
        starts = _rows_of_corner_crops(num_images, width, self.size, images.device) + draws
        crops = runs.index_select(0, starts.flatten())
        return crops.view(num_images, self.size, self.size, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Flip:
    """Mirrors along a dimension: 3 left and right, 2 top and bottom."""

    dimension: int
    probability: float

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """1 to flip, else 0."""
        return (rng.random((num_images, 1)) < self.probability).astype(np.int64)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Same shape and dtype."""
        # Both ways side by side, of which whole images are picked: on bytes three times as fast as torch.where.
        both = torch.cat([images, images.flip(self.dimension)])
        picked = _arange(len(images), images.device) + len(images) * draws[:, 0]
        if images.is_contiguous():
            return both.index_select(0, picked)
        return both.permute(0, 2, 3, 1).index_select(0, picked).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Affine:
    """Rotates, scales, shears and shifts about the centre; black comes in at the borders.

    Rotation alone is this with the other ranges empty. Linear interpolation.
    """

    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Angle and shear in degrees, horizontal and vertical shift as fractions of the side, scale."""
        low = (-self.degrees, -self.shear, -self.translate, -self.translate, self.scale[0])
        high = (self.degrees, self.shear, self.translate, self.translate, self.scale[1])
        return rng.uniform(low, high, (num_images, 5))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Same shape, float32."""
        angle, shear = (draws[:, :2] * (math.pi / 180)).unbind(1)
        shift_x, shift_y, scale = draws[:, 2:].unbind(1)
        cos, sin, tan = angle.cos(), angle.sin(), shear.tan()
        # forward = scale * rotation * shear; sampling needs its inverse, from output to input places
        inverse = (
            torch.stack([sin * tan + cos, sin - cos * tan, -sin, cos], dim=1).view(-1, 2, 2) / scale[:, None, None]
        )
        shift = 2 * torch.stack([shift_x, shift_y], dim=1)[:, :, None]  # grid_sample's image spans [-1, 1]
        return _resample(images, torch.cat([inverse, -inverse @ shift], dim=2), images.shape[-1])


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cuts out a random area at a random aspect ratio and resizes it to `size` px.

    Szegedy et al., arXiv:1409.4842, section 6. A crop that would be wider or higher than the image is as
    wide or high as the image. Linear interpolation.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Width and height of the crop as fractions of the side, horizontal and vertical place in [0, 1)."""
        sides = _random_sides(rng, num_images, self.scale, self.ratio)
        return np.concatenate([sides, rng.random((num_images, 2))], axis=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, size, size), float32."""
        sides, places = draws[:, :2], draws[:, 2:]
        centres = (2 * places - 1) * (1 - sides)  # the image spans [-1, 1], the crop `sides` of it
        return _resample(
            images, torch.cat([torch.diag_embed(sides), centres[:, :, None]], dim=2), self.size, outside="border"
        )


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, then contrast, then saturation, each by a factor in [1 - value, 1 + value]."""

    brightness: float
    contrast: float
    saturation: float

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """The three factors."""
        ranges = np.array([self.brightness, self.contrast, self.saturation])
        return rng.uniform(1 - ranges, 1 + ranges, (num_images, 3))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Same shape, float32 in [0, 1]."""
        brightness, contrast, saturation = draws[:, :, None, None, None].unbind(1)
        # Channel by channel in memory, and in place: a tenth of the time that it takes with a pixel's side by side.
        images = (unit_float(images).contiguous() * brightness).clamp_(0, 1)
        _blend_(images, _grey(images).mean((2, 3), keepdim=True), contrast)
        if images.shape[1] == 3:
            _blend_(images, _grey(images), saturation)
        return images


@dataclass(frozen=True)
class RandomErasing:
    """Paints a random rectangle with the mean colour (Zhong et al., arXiv:1708.04896)."""

    probability: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    colour: tuple[float, ...]

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Whether to erase: below `probability`; width and height as fractions; place in [0, 1)."""
        sides = _random_sides(rng, num_images, self.scale, self.ratio)
        return np.concatenate([rng.random((num_images, 1)), sides, rng.random((num_images, 2))], axis=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Same shape, float32."""
        chosen = (draws[:, :1] < self.probability)[:, :, None, None]
        inside = _box(draws[:, 1:3], draws[:, 3:5], images.shape[-1])
        colour = per_channel(self.colour, images.device)
        return torch.where(inside & chosen, colour, unit_float(images))


@dataclass(frozen=True)
class Mixer:
    """`mixup` (Zhang et al., arXiv:1710.09412) or `cutmix` (Yun et al., arXiv:1905.04899) of pairs."""

    name: str
    alpha: float
    probability: float


@dataclass(frozen=True)
class Mixing:
    """Mixes each image with its neighbour in the epoch's order, and their labels alike.

    Positions 2k and 2k + 1 are partners, so that a pair does not depend on the batch; the order is random, so
    partners are too. Where several mixers are listed, each pair takes one of them. The last of an odd number of
    images stays as it is.
    """

    mixers: tuple[Mixer, ...]

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Share of the own image; 1 for a rectangle (cutmix), else 0; place of the rectangle in [0, 1)."""
        num_pairs = num_images // 2
        which = rng.integers(len(self.mixers), size=num_pairs)
        shares = np.stack([rng.beta(mixer.alpha, mixer.alpha, num_pairs) for mixer in self.mixers])
        shares = shares[which, np.arange(num_pairs)]
        skipped = rng.random(num_pairs) >= np.array([mixer.probability for mixer in self.mixers])[which]
        shares[skipped] = 1.0
        is_box = np.array([float(mixer.name == "cutmix") for mixer in self.mixers])[which]
        pairs = np.concatenate([shares[:, None], is_box[:, None], rng.random((num_pairs, 2))], axis=1)
        rows = np.tile(np.array([1.0, 0.0, 0.0, 0.0]), (num_images, 1))
        rows[: 2 * num_pairs] = np.repeat(pairs, 2, axis=0)
        return rows

    def __call__(self, images: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes whole pairs, which the batch must hold.

        Args:
            images: (B, C, H, W).
            targets: float32 (B, K), probabilities.
            draws: float32 (B, 4).
        """
        num_paired = len(images) // 2 * 2
        partner = torch.arange(len(images), device=images.device)
        partner[:num_paired] = partner[:num_paired].view(-1, 2).flip(1).flatten()
        images, share = unit_float(images), draws[:, :1]
        # The weight of the own image at each pixel: its share everywhere (mixup), or 0 in a box, else 1 (cutmix).
        box = _box((1 - share).clamp(min=0).sqrt().expand(-1, 2), draws[:, 2:4], images.shape[-1])
        own = torch.where((draws[:, 1] > 0.5)[:, None, None, None], (~box).float(), share[:, :, None, None])
        own_share = own.mean((2, 3))
        mixed = own * images + (1 - own) * images[partner]
        return mixed, own_share * targets + (1 - own_share) * targets[partner]


def unit_float(images: Tensor) -> Tensor:
    """uint8, or float32 in [0, 1] already -> float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


# In a step of a small network it is the number of operations that counts: what is the same in every step is kept.
@lru_cache(maxsize=16)
def _arange(num_images: int, device: torch.device) -> Tensor:
    return torch.arange(num_images, device=device)


@lru_cache(maxsize=16)
def _rows_of_corner_crops(num_images: int, width: int, size: int, device: torch.device) -> Tensor:
    """Where each row of each crop would start, counted in pixels of the batch, if all were at the upper left corner."""
    image, row = _arange(num_images, device), _arange(size, device)
    return image[:, None] * width**2 + row * width


def _random_sides(
    rng: np.random.Generator, num_images: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Table:
    """Width and height, fractions in (0, 1], of boxes of random area and (log-uniformly) random aspect ratio."""
    area = rng.uniform(*scale, num_images)
    aspect = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), num_images))
    sides: Table = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1)
    return sides.clip(max=1.0)


def _box(sides: Tensor, places: Tensor, size: int) -> Tensor:
    """Masks (B, 1, size, size), true in a box of (width, height) `sides` at `places`, all in [0, 1] (B, 2)."""
    starts = places * (1 - sides) * size
    ends = starts + sides * size
    centres = torch.arange(size, device=sides.device) + 0.5
    inside = (centres >= starts[:, :, None]) & (centres < ends[:, :, None])  # (B, 2, size)
    return (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]


def _resample(images: Tensor, theta: Tensor, size: int, outside: str = "zeros") -> Tensor:
    """float32 (B, C, size, size): output pixel p shows input place theta p (B, 2, 3), both in [-1, 1]."""
    # F.affine_grid does the same by a product of matrices, with inner sides of 3 and 2, and takes twenty times as long.
    centres = (2 * torch.arange(size, device=theta.device) + 1) / size - 1
    per_row = theta[:, :, 1, None] * centres + theta[:, :, 2, None]  # (B, 2, size)
    grid = per_row[..., None] + theta[:, :, 0, None, None] * centres  # (B, 2, size, size), x and y
    return F.grid_sample(
        unit_float(images), grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode=outside, align_corners=False
    )


def _grey(images: Tensor) -> Tensor:
    """Luminance (ITU-R 601) of (B, C, H, W) -> (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    grey: Tensor = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return grey


def _blend_(images: Tensor, base: Tensor, factor: Tensor) -> None:
    """In place: factor * images + (1 - factor) * base, within [0, 1]."""
    images.mul_(factor).add_((1 - factor) * base).clamp_(0, 1)
