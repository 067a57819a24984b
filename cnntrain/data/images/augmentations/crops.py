"""Crops: central, at a random place, and of random size."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor

from cnntrain.config.section import PositiveRange
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import arange, centre_crop, check_box, random_sides, resample
from cnntrain.data.pipeline import Table


class RandomCrop(AugmentationOptions):
    """Pad with black on every side, then crop the network's size at a random place."""

    crops: ClassVar[bool] = True
    name: Literal["random_crop"] = "random_crop"
    padding: NonNegativeInt = Field(4, description="px on each side")

    def build(self, preprocessing: Preprocessing) -> "ShiftedCrop":
        return ShiftedCrop(preprocessing.image_size, self.padding, preprocessing.stored_size)


class RandomResizedCrop(AugmentationOptions):
    """Crop a random area at a random aspect ratio and resize it to the network's size."""

    crops: ClassVar[bool] = True
    name: Literal["random_resized_crop"] = "random_resized_crop"
    scale: PositiveRange = Field((0.08, 1.0), description="area of the crop, as a fraction of the image")
    ratio: PositiveRange = Field((0.75, 1.3333333333333333), description="width / height of the crop")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_box(self.scale, self.ratio)
        return self

    def build(self, preprocessing: Preprocessing) -> "ResizedCrop":
        return ResizedCrop(preprocessing.image_size, self.scale, self.ratio)


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
class ShiftedCrop:
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
class ResizedCrop:
    """Cuts out a random area at a random aspect ratio and resizes it to `size` px.

    Szegedy et al., arXiv:1409.4842, section 6. A crop that would be wider or higher than the image is as
    wide or high as the image. Linear interpolation.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Width and height of the crop as fractions of the side, horizontal and vertical place in [0, 1)."""
        sides = random_sides(rng, num_images, self.scale, self.ratio)
        return np.concatenate([sides, rng.random((num_images, 2))], axis=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, size, size), float32."""
        sides, places = draws[:, :2], draws[:, 2:]
        centres = (2 * places - 1) * (1 - sides)  # the image spans [-1, 1], the crop `sides` of it
        return resample(
            images, torch.cat([torch.diag_embed(sides), centres[:, :, None]], dim=2), self.size, outside="border"
        )


@lru_cache(maxsize=16)
def _rows_of_corner_crops(num_images: int, width: int, size: int, device: torch.device) -> Tensor:
    """Where each row of each crop would start, counted in pixels of the batch, if all were at the upper left corner."""
    image, row = arange(num_images, device), arange(size, device)
    return image[:, None] * width**2 + row * width
