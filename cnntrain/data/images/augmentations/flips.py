"""Mirror images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cnntrain.config.section import Fraction
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import arange
from cnntrain.data.pipeline import Table


class HorizontalFlip(AugmentationOptions):
    """Mirror left and right."""

    name: Literal["horizontal_flip"] = "horizontal_flip"
    probability: Fraction = 0.5

    def build(self, preprocessing: Preprocessing) -> "Flip":
        return Flip(3, self.probability)


class VerticalFlip(AugmentationOptions):
    """Mirror top and bottom."""

    name: Literal["vertical_flip"] = "vertical_flip"
    probability: Fraction = 0.5

    def build(self, preprocessing: Preprocessing) -> "Flip":
        return Flip(2, self.probability)


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
        picked = arange(len(images), images.device) + len(images) * draws[:, 0]
        if images.is_contiguous():
            return both.index_select(0, picked)
        return both.permute(0, 2, 3, 1).index_select(0, picked).permute(0, 3, 1, 2)
