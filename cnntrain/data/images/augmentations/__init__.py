"""The table of augmentations of images, each beside its options, and the type of an entry of `data.augment`."""

from typing import TYPE_CHECKING

from cnntrain.config.shorthand import Shorthand, choice_of
from cnntrain.data.images.augmentations.affine import Affine, Rotation
from cnntrain.data.images.augmentations.color_jitter import ColorJitter
from cnntrain.data.images.augmentations.crops import RandomCrop, RandomResizedCrop
from cnntrain.data.images.augmentations.flips import HorizontalFlip, VerticalFlip
from cnntrain.data.images.augmentations.mixing import Cutmix, Mixup
from cnntrain.data.images.augmentations.options import AugmentationOptions
from cnntrain.data.images.augmentations.random_erasing import RandomErasing

AUGMENTATIONS = (
    RandomCrop,
    RandomResizedCrop,
    HorizontalFlip,
    VerticalFlip,
    Rotation,
    Affine,
    ColorJitter,
    RandomErasing,
    Mixup,
    Cutmix,
)

if TYPE_CHECKING:
    Augmentation = AugmentationOptions
else:
    Augmentation = choice_of(AUGMENTATIONS, Shorthand())
