"""Pairs of images, mixed with their labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor

from cnntrain.config.section import Fraction
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import box, unit_float
from cnntrain.data.pipeline import Table


class Mixup(AugmentationOptions):
    """Blend pairs of images and their labels (Zhang et al. 2017)."""

    name: Literal["mixup"] = "mixup"
    alpha: PositiveFloat = 0.2
    probability: Fraction = 1.0

    def build(self, preprocessing: Preprocessing) -> "Mixer":
        return Mixer(self.name, self.alpha, self.probability)


class Cutmix(AugmentationOptions):
    """Paste a rectangle of another image; labels mix by area (Yun et al. 2019)."""

    name: Literal["cutmix"] = "cutmix"
    alpha: PositiveFloat = 1.0
    probability: Fraction = 1.0

    def build(self, preprocessing: Preprocessing) -> "Mixer":
        return Mixer(self.name, self.alpha, self.probability)


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
        pasted = box((1 - share).clamp(min=0).sqrt().expand(-1, 2), draws[:, 2:4], images.shape[-1])
        own = torch.where((draws[:, 1] > 0.5)[:, None, None, None], (~pasted).float(), share[:, :, None, None])
        own_share = own.mean((2, 3))
        mixed = own * images + (1 - own) * images[partner]
        return mixed, own_share * targets + (1 - own_share) * targets[partner]
