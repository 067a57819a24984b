"""The list `data.augment`: what happens to training images."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from cnntrain.config.section import Degrees, Fraction, PositiveRange, Section, check_ascending
from cnntrain.config.shorthand import Shorthand


class RandomCrop(Section):
    """Pad with black on every side, then crop the network's size at a random place."""

    name: Literal["random_crop"] = "random_crop"
    padding: NonNegativeInt = Field(4, description="px on each side")


class RandomResizedCrop(Section):
    """Crop a random area at a random aspect ratio and resize it to the network's size."""

    name: Literal["random_resized_crop"] = "random_resized_crop"
    scale: PositiveRange = Field((0.08, 1.0), description="area of the crop, as a fraction of the image")
    ratio: PositiveRange = Field((0.75, 1.3333333333333333), description="width / height of the crop")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_ascending(self.scale, "scale")
        check_ascending(self.ratio, "ratio")
        if self.scale[1] > 1:
            raise ValueError(f"scale is a fraction of the image's area, at most 1 (got {list(self.scale)})")
        return self


class HorizontalFlip(Section):
    """Mirror left and right."""

    name: Literal["horizontal_flip"] = "horizontal_flip"
    probability: Fraction = 0.5


class VerticalFlip(Section):
    """Mirror top and bottom."""

    name: Literal["vertical_flip"] = "vertical_flip"
    probability: Fraction = 0.5


class Rotation(Section):
    """Rotate about the centre by a random angle in [-degrees, degrees]."""

    name: Literal["rotation"] = "rotation"
    degrees: Annotated[float, Field(gt=0, le=180)] = 10.0


class Affine(Section):
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


class ColorJitter(Section):
    """Change brightness, contrast and saturation, each by a factor in [1 - value, 1 + value]."""

    name: Literal["color_jitter"] = "color_jitter"
    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    saturation: Fraction = 0.2


class RandomErasing(Section):
    """Paint a random rectangle with the mean colour (Zhong et al. 2017)."""

    name: Literal["random_erasing"] = "random_erasing"
    probability: Fraction = 0.25
    scale: PositiveRange = Field((0.02, 0.33), description="area, as a fraction of the image")
    ratio: PositiveRange = Field((0.3, 3.3), description="width / height")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_ascending(self.scale, "scale")
        check_ascending(self.ratio, "ratio")
        if self.scale[1] > 1:
            raise ValueError(f"scale is a fraction of the image's area, at most 1 (got {list(self.scale)})")
        return self


class Mixup(Section):
    """Blend pairs of images and their labels (Zhang et al. 2017)."""

    name: Literal["mixup"] = "mixup"
    alpha: PositiveFloat = 0.2
    probability: Fraction = 1.0


class Cutmix(Section):
    """Paste a rectangle of another image; labels mix by area (Yun et al. 2019)."""

    name: Literal["cutmix"] = "cutmix"
    alpha: PositiveFloat = 1.0
    probability: Fraction = 1.0


Augmentation = Annotated[
    RandomCrop
    | RandomResizedCrop
    | HorizontalFlip
    | VerticalFlip
    | Rotation
    | Affine
    | ColorJitter
    | RandomErasing
    | Mixup
    | Cutmix,
    Field(discriminator="name"),
    Shorthand(),
]
