"""From a list of augmentations to one function on batches."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnntrain.config import schema
from cnntrain.data import augment
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.runtime.seeds import generator


@dataclass(frozen=True)
class AugmentationPipeline:
    """What happens to training images between memory and network.

    Attributes:
        steps: Augmentations in the order given, the crop to the network's size among them.
        mixing: Last, and on the labels too; None where labels stay whole.
        preprocessing: Normalises what comes out.
        num_classes: K.
    """

    steps: tuple[augment.Augmentation, ...]
    mixing: augment.Mixing | None
    preprocessing: Preprocessing
    num_classes: int

    def draw(self, seed: int, epoch: int, num_images: int) -> list[Tensor]:
        """The tables of an epoch, float32 or int64 on the CPU: a row for each position in its order."""
        drawers: list[augment.Augmentation | augment.Mixing] = [*self.steps, *([self.mixing] if self.mixing else [])]
        tables = [
            drawer.draw(generator("augment", seed, epoch, index), num_images) for index, drawer in enumerate(drawers)
        ]
        return [torch.from_numpy(table.astype(np.float32) if table.dtype == np.float64 else table) for table in tables]

    def __call__(self, images: Tensor, targets: Tensor, draws: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Augments and normalises a batch.

        Args:
            images: uint8 (B, C, stored_size, stored_size).
            targets: int64 (B,).
            draws: The batch's rows of each table.

        Returns:
            float32 (B, C, image_size, image_size), and int64 (B,) or, where labels are mixed, float32 (B, K).
        """
        for step, rows in zip(self.steps, draws, strict=False):
            images = step(images, rows)
        if self.mixing:
            targets = F.one_hot(targets, self.num_classes).float()
            images, targets = self.mixing(images, targets, draws[-1])
        return self.preprocessing.normalise(images), targets


def build_pipeline(
    config: tuple[schema.Augmentation, ...], preprocessing: Preprocessing, num_classes: int
) -> AugmentationPipeline:
    """The augmentations that a configuration lists; without a random crop the central one is taken first."""
    size = preprocessing.image_size
    steps: list[augment.Augmentation] = []
    mixers: list[augment.Mixer] = []
    for item in config:
        match item:
            case schema.RandomCrop():
                steps.append(augment.RandomCrop(size, item.padding, preprocessing.stored_size))
            case schema.RandomResizedCrop():
                steps.append(augment.RandomResizedCrop(size, item.scale, item.ratio))
            case schema.HorizontalFlip():
                steps.append(augment.Flip(3, item.probability))
            case schema.VerticalFlip():
                steps.append(augment.Flip(2, item.probability))
            case schema.Rotation():
                steps.append(augment.Affine(degrees=item.degrees))
            case schema.Affine():
                steps.append(augment.Affine(item.degrees, item.translate, item.scale, item.shear))
            case schema.ColorJitter():
                steps.append(augment.ColorJitter(item.brightness, item.contrast, item.saturation))
            case schema.RandomErasing():
                colour = preprocessing.mean
                steps.append(augment.RandomErasing(item.probability, item.scale, item.ratio, colour))
            case schema.Mixup() | schema.Cutmix():
                mixers.append(augment.Mixer(item.name, item.alpha, item.probability))
    crops = any(isinstance(step, augment.RandomCrop | augment.RandomResizedCrop) for step in steps)
    if preprocessing.stored_size > size and not crops:
        steps.insert(0, augment.CentreCrop(size))
    mixing = augment.Mixing(tuple(mixers)) if mixers else None
    return AugmentationPipeline(tuple(steps), mixing, preprocessing, num_classes)
