"""Changes of brightness, contrast and saturation."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from cnntrain.config.section import Fraction
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import unit_float
from cnntrain.data.pipeline import Table


class ColorJitter(AugmentationOptions):
    """Change brightness, contrast and saturation, each by a factor in [1 - value, 1 + value]."""

    name: Literal["color_jitter"] = "color_jitter"
    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    saturation: Fraction = 0.2

    def build(self, preprocessing: Preprocessing) -> "Jitter":
        return Jitter(self.brightness, self.contrast, self.saturation)


@dataclass(frozen=True)
class Jitter:
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
