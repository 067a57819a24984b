"""The `model` section: which network, and what it starts from."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cnntrain.config.schema.layers import Layers
from cnntrain.config.section import Fraction, Section
from cnntrain.config.shorthand import Shorthand


class Network(Section):
    """What every network has."""

    name: str
    init: Literal["default", "kaiming", "xavier", "orthogonal", "paper"] = Field(
        "default", description="Initial weights; default: as this variant is usually started; paper: as its paper says."
    )
    weights: str | None = Field(
        None,
        description="Trained weights to start from: a checkpoint of cnntrain, a safetensors file, a state dict (.pth), "
        "or `torchvision` for its published ones.",
    )
    freeze: Annotated[str | None, BeforeValidator(lambda value: str(value) if type(value) is int else value)] = Field(
        None,
        description="backbone: train the head alone; or the last stage that stays as it is (see `cnntrain summary`).",
    )

    def _refuse(self, **applies_to: str) -> None:
        """Refuses options that were changed where they have no meaning."""
        for key, where in applies_to.items():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} applies to {where} (got {key}: {getattr(self, key)}); remove it")


class Lenet5(Network):
    """LeNet-5 (LeCun et al. 1998): 61,706 parameters on 1x32x32 as it is built today, 60,000 as it was."""

    name: Literal["lenet5"] = "lenet5"
    variant: Literal["modern", "original"] = Field(
        "modern", description="original: trainable subsampling, sparse C3, scaled tanh, distances to class codes."
    )
    activation: Literal["relu", "tanh"] = "relu"
    pooling: Literal["max", "average"] = "max"
    padding: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="Zero padding of the first convolution, px; 2 gives 28x28 images the 32x32 network."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.variant == "original":
            self._refuse(activation="variant: modern", pooling="variant: modern")
            if self.init not in ("default", "paper"):
                raise ValueError(f"init: variant: original starts as its paper says (got init: {self.init}); remove it")
        return self


class Alexnet(Network):
    """AlexNet (Krizhevsky et al. 2012)."""

    name: Literal["alexnet"] = "alexnet"
    variant: Literal["paper", "torchvision", "small"] = Field(
        "torchvision", description="small: 3x3 convolutions without stride, for images around 32 px."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Googlenet(Network):
    """GoogLeNet (Szegedy et al. 2014)."""

    name: Literal["googlenet"] = "googlenet"
    variant: Literal["paper", "torchvision", "small"] = Field(
        "torchvision", description="torchvision: 3x3 where the paper has 5x5; small: for images around 32 px."
    )
    auxiliary: bool = Field(True, description="Train with the two auxiliary classifiers.")
    aux_weight: Fraction = Field(0.3, description="By how much each auxiliary loss counts.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.auxiliary:
            self._refuse(aux_weight="auxiliary: true")
        return self


class Residual(Network):
    """Options of the residual networks."""

    preactivation: bool = Field(False, description="Norm and ReLU before each convolution (He et al. 2016).")
    zero_init: bool = Field(False, description="Start the last norm of each block at zero (Goyal et al. 2017).")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preactivation and self.zero_init:
            raise ValueError("zero_init has no meaning with preactivation, whose blocks do not end in a norm")
        return self


class CifarResnet(Residual):
    """The residual networks for 32x32 images (He et al. 2015, section 4.2)."""

    name: Literal["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"] = "resnet20"
    shortcut: Literal["padding", "projection"] = Field("padding", description="Where a block changes the shape.")


class Resnet(Residual):
    """The residual networks for ImageNet (He et al. 2015, table 1)."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18"
    stem: Literal["imagenet", "small"] = Field(
        "imagenet", description="small: a 3x3 first convolution without stride or pooling, for images around 32 px."
    )
    stride_placement: Literal["v1.5", "v1"] = Field(
        "v1.5", description="Which convolution of a bottleneck halves the image: the 3x3 (v1.5) or the first 1x1 (v1)."
    )
    shortcut: Literal["projection", "padding"] = Field("projection", description="Where a block changes the shape.")

    @model_validator(mode="after")
    def _check_bottleneck(self) -> Self:
        if self.name in ("resnet18", "resnet34"):
            self._refuse(stride_placement="networks with bottlenecks: resnet50, resnet101, resnet152")
        return self


class Resnet9(Network):
    """A compact residual network of eight convolutions (Page 2018), for the fastest training on 32x32 images."""

    name: Literal["resnet9"] = "resnet9"
    width: Annotated[int, Field(gt=0, le=4096)] = Field(
        64, description="Maps of the first convolution; the last has eight times as many."
    )


class Sequential(Network):
    """Layers, one after the other, as written; channels and features that arrive are inferred."""

    name: Literal["sequential"] = "sequential"
    layers: Layers


Model = Annotated[
    Lenet5 | Alexnet | Googlenet | CifarResnet | Resnet | Resnet9 | Sequential,
    Field(discriminator="name"),
    Shorthand(),
]
