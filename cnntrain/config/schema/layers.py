"""The list `model.layers` of a network written in YAML.

A layer may be called as in PyTorch or as in Keras, and its main value written alone: `Dropout: 0.25`, `Dense: 128`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, WithJsonSchema, model_validator
from typing_extensions import TypeAliasType

from cnntrain.config.section import Section
from cnntrain.config.shorthand import Shorthand

MAX_SIDE = 65_536  # of kernels, strides, paddings
MAX_MAPS = 2**24  # of channels and features: what is larger could not be counted by PyTorch

Size = Annotated[int, Field(gt=0, le=MAX_MAPS)]


def _pair(smallest: int, *words: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """One whole number for both directions, or two: height and width; or one of the words."""

    def check(value: Any) -> Any:
        pair = (value, value) if type(value) is int else value
        if pair == "valid" and words:  # as Keras has it
            return (0, 0)
        if pair in words:
            return pair
        whole = isinstance(pair, list | tuple) and all(
            type(side) is int and smallest <= side <= MAX_SIDE for side in pair
        )
        if not whole or len(pair) != 2:
            allowed = f"a whole number from {smallest} to {MAX_SIDE}, or two of them for height and width"
            raise ValueError(f"must be {' or '.join([allowed, *words])} (got {value!r})")
        return tuple(pair)

    number = {"type": "integer", "minimum": smallest}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return BeforeValidator(check), WithJsonSchema({"anyOf": [number, pair, *({"const": word} for word in words)]})


Pair = Annotated[tuple[int, int], *_pair(1)]
Padding = Annotated[tuple[int, int], *_pair(0)]
SamePadding = Annotated[tuple[int, int] | Literal["same"], *_pair(0, "same")]
Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "gelu"]


class Conv2d(Section):
    """A convolution."""

    name: Literal["conv2d"] = "conv2d"
    out_channels: Size = Field(description="maps that it returns")
    kernel_size: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: SamePadding = Field(
        (0, 0), description="zeros on each side, px; same: as many as keep the size (stride 1 only)"
    )
    dilation: Pair = (1, 1)
    groups: Size = 1
    bias: bool = True
    activation: Activation | None = Field(None, description="what follows, instead of a layer of its own")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.padding == "same" and self.stride != (1, 1):
            raise ValueError(f"padding: same goes with stride: 1 (got stride: {list(self.stride)}); write a number")
        if self.padding == "same" and not all(side % 2 for side in self.kernel_size):
            raise ValueError(
                f"padding: same goes with an odd kernel_size (got {list(self.kernel_size)}); write a number"
            )
        return self


class Pooling(Section):
    """What both poolings have."""

    name: str
    kernel_size: Pair = (2, 2)
    stride: Pair | None = Field(None, description="null: the kernel's size")
    padding: Padding = (0, 0)
    ceil_mode: bool = Field(False, description="let a window reach beyond the edge")


class MaxPool2d(Pooling):
    """The largest value of each window."""

    name: Literal["max_pool2d"] = "max_pool2d"


class AvgPool2d(Pooling):
    """The mean of each window."""

    name: Literal["avg_pool2d"] = "avg_pool2d"


class AdaptiveAvgPool2d(Section):
    """Means over as many windows as are asked for; one is the mean of each map."""

    name: Literal["adaptive_avg_pool2d"] = "adaptive_avg_pool2d"
    output_size: Pair = (1, 1)


class AdaptiveMaxPool2d(Section):
    """Largest values over as many windows as are asked for."""

    name: Literal["adaptive_max_pool2d"] = "adaptive_max_pool2d"
    output_size: Pair = (1, 1)


class GlobalAvgPool2d(Section):
    """The mean of each map, as a row of values."""

    name: Literal["global_avg_pool2d"] = "global_avg_pool2d"


class GlobalMaxPool2d(Section):
    """The largest value of each map, as a row of values."""

    name: Literal["global_max_pool2d"] = "global_max_pool2d"


class Flatten(Section):
    """Maps to a row of values."""

    name: Literal["flatten"] = "flatten"


class Linear(Section):
    """A fully connected layer."""

    name: Literal["linear"] = "linear"
    out_features: Size | None = Field(None, description="null: one per class")
    bias: bool = True
    activation: Activation | Literal["softmax"] | None = Field(
        None, description="what follows, instead of a layer of its own; softmax at the very end"
    )


class Dropout(Section):
    """Sets values to zero at random while training."""

    name: Literal["dropout"] = "dropout"
    probability: Annotated[float, Field(ge=0, lt=1)] = 0.5


class BatchNorm(Section):
    """Batch norm over each map (2d) or each value of a row (1d); batch_norm takes what arrives."""

    name: Literal["batch_norm2d", "batch_norm1d", "batch_norm"] = "batch_norm2d"


class Relu(Section):
    """max(x, 0)."""

    name: Literal["relu"] = "relu"


class Tanh(Section):
    """The hyperbolic tangent."""

    name: Literal["tanh"] = "tanh"


class Sigmoid(Section):
    """1 / (1 + exp(-x))."""

    name: Literal["sigmoid"] = "sigmoid"


class LeakyRelu(Section):
    """x, or a small part of it where it is negative."""

    name: Literal["leaky_relu"] = "leaky_relu"
    negative_slope: Annotated[float, Field(ge=0, lt=1)] = 0.01


class Gelu(Section):
    """x times the normal distribution's function at x."""

    name: Literal["gelu"] = "gelu"


class Softmax(Section):
    """May be written at the end; it is the loss that computes it."""

    name: Literal["softmax"] = "softmax"


class Residual(Section):
    """The sum of what the layers make and what arrives (perhaps changed by the layers of `shortcut`)."""

    name: Literal["residual"] = "residual"
    layers: "Layers"
    shortcut: "Layers | None" = None


class Parallel(Section):
    """Branches side by side, whose maps are stacked, as in an inception module; an empty branch passes on."""

    name: Literal["parallel"] = "parallel"
    branches: "Annotated[tuple[Annotated[tuple[Layer, ...], Strict(False)], ...], Strict(False), Field(min_length=2)]"


# How other libraries, and people, call the layers; upper and lower case do not matter.
SPOKEN = {
    "Conv2D": "conv2d",
    "Conv2d": "conv2d",
    "MaxPooling2D": "max_pool2d",
    "MaxPool2d": "max_pool2d",
    "AveragePooling2D": "avg_pool2d",
    "AvgPool2d": "avg_pool2d",
    "GlobalAveragePooling2D": "global_avg_pool2d",
    "AdaptiveAvgPool2d": "adaptive_avg_pool2d",
    "GlobalMaxPooling2D": "global_max_pool2d",
    "AdaptiveMaxPool2d": "adaptive_max_pool2d",
    "Flatten": "flatten",
    "Dense": "linear",
    "Linear": "linear",
    "Dropout": "dropout",
    "BatchNormalization": "batch_norm",
    "BatchNorm1d": "batch_norm1d",
    "BatchNorm2d": "batch_norm2d",
    "ReLU": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyReLU": "leaky_relu",
    "GELU": "gelu",
    "Softmax": "softmax",
    "Residual": "residual",
    "Parallel": "parallel",
}

_SPOKEN_KEYS = {
    "filters": "out_channels",
    "units": "out_features",
    "pool_size": "kernel_size",
    "strides": "stride",
    "rate": "probability",
    "p": "probability",
}

_MAIN_KEYS = {
    "conv2d": "out_channels",
    "max_pool2d": "kernel_size",
    "avg_pool2d": "kernel_size",
    "adaptive_avg_pool2d": "output_size",
    "adaptive_max_pool2d": "output_size",
    "linear": "out_features",
    "dropout": "probability",
    "leaky_relu": "negative_slope",
    "residual": "layers",
    "parallel": "branches",
}

_AnyLayer = Annotated[
    Conv2d
    | MaxPool2d
    | AvgPool2d
    | AdaptiveAvgPool2d
    | AdaptiveMaxPool2d
    | GlobalAvgPool2d
    | GlobalMaxPool2d
    | Flatten
    | Linear
    | Dropout
    | BatchNorm
    | Relu
    | Tanh
    | Sigmoid
    | LeakyRelu
    | Gelu
    | Softmax
    | Residual
    | Parallel,
    Field(discriminator="name"),
    Shorthand(spoken=SPOKEN, main_keys=_MAIN_KEYS, spoken_keys=_SPOKEN_KEYS),
]
Layer = TypeAliasType("Layer", _AnyLayer)  # type: ignore[misc]  # a name of its own in the JSON Schema
Layers = Annotated[tuple[Layer, ...], Strict(False), Field(min_length=1)]

Residual.model_rebuild()
Parallel.model_rebuild()
