"""Rectangles that are painted over."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cnntrain.config.section import Fraction, PositiveRange
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import box, check_box, per_channel, random_sides, unit_float
from cnntrain.data.pipeline import Table


class RandomErasing(AugmentationOptions):
    """Paint a random rectangle with the mean colour (Zhong et al. 2017)."""

    name: Literal["random_erasing"] = "random_erasing"
    probability: Fraction = 0.25
    scale: PositiveRange = Field((0.02, 0.33), description="area, as a fraction of the image")
    ratio: PositiveRange = Field((0.3, 3.3), description="width / height")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_box(self.scale, self.ratio)
        return self

    def build(self, preprocessing: Preprocessing) -> "Eraser":
        return Eraser(self.probability, self.scale, self.ratio, preprocessing.mean)


@dataclass(frozen=True)
class Eraser:
    """Paints a random rectangle with the mean colour (Zhong et al., arXiv:1708.04896)."""

    probability: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    colour: tuple[float, ...]

    def draw(self, rng: np.random.Generator, num_images: int) -> Table:
        """Whether to erase: below `probability`; width and height as fractions; place in [0, 1)."""
        sides = random_sides(rng, num_images, self.scale, self.ratio)
        return np.concatenate([rng.random((num_images, 1)), sides, rng.random((num_images, 2))], axis=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Same shape, float32."""
        chosen = (draws[:, :1] < self.probability)[:, :, None, None]
        inside = box(draws[:, 1:3], draws[:, 3:5], images.shape[-1])
        colour = per_channel(self.colour, images.device)
        return torch.where(inside & chosen, colour, unit_float(images))
