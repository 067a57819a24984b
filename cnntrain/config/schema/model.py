"""The `model` section: which network."""

from typing import Annotated, Literal

from pydantic import Field

from cnntrain.config.schema.base import Section
from cnntrain.config.shorthand import Shorthand


class Lenet5(Section):
    """LeNet-5 (LeCun et al. 1998) as it is built today: 61,706 parameters on 1x32x32."""

    name: Literal["lenet5"] = "lenet5"
    variant: Literal["modern"] = "modern"
    activation: Literal["relu", "tanh"] = "relu"
    pooling: Literal["max", "average"] = "max"
    padding: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="Zero padding of the first convolution, px; 2 gives 28x28 images the 32x32 network."
    )


class CifarResnet(Section):
    """The residual networks for 32x32 images (He et al. 2015, section 4.2)."""

    name: Literal["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"] = "resnet20"


class Resnet(Section):
    """The residual networks for ImageNet (He et al. 2015, table 1)."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18"
    stem: Literal["imagenet", "small"] = Field(
        "imagenet", description="small: a 3x3 first convolution without stride or pooling, for images around 32 px."
    )


Model = Annotated[Lenet5 | CifarResnet | Resnet, Field(discriminator="name"), Shorthand()]
