"""Rotation, shift, scale and shear."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cnntrain.config.section import Degrees, Fraction, PositiveRange, check_ascending
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import resample
from cnntrain.data.pipeline import Table


class Rotation(AugmentationOptions):
    """Rotate about the centre by a random angle in [-degrees, degrees]."""

    name: Literal["rotation"] = "rotation"
    degrees: Annotated[float, Field(gt=0, le=180)] = 10.0

    def build(self, preprocessing: Preprocessing) -> "AffineMap":
        return AffineMap(degrees=self.degrees)


class Affine(AugmentationOptions):
    """Rotate, translate, scale and shear, all at once."""

    name: Literal["affine"] = "affine"
    degrees: Degrees = Field(0.0, description="rotation in [-degrees, degrees]")
    translate: Fraction = Field(0.1, description="shift in each direction, as a fraction of the image's side")
    scale: PositiveRange = (0.9, 1.1)
    shear: Annotated[float, Field(ge=0, lt=90)] = Field(0.0, description="horizontal shear in [-shear, shear] degrees")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_ascending(self.scale, "scale")
        return self

    def build(self, preprocessing: Preprocessing) -> "AffineMap":
        return AffineMap(self.degrees, self.translate, self.scale, self.shear)


@dataclass(frozen=True)
class AffineMap:
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
        return resample(images, torch.cat([inverse, -inverse @ shift], dim=2), images.shape[-1])
