"""Layers whose windows slide over maps: the convolution, and poolings."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from torch import nn

from cnntrain.errors import ConfigError
from cnntrain.models.layers.activations import Activation, activated
from cnntrain.models.layers.base import Arriving, Built, LayerOptions, Shape, Size, show

MAX_SIDE = 65_536  # of kernels, strides, paddings


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


def maps(arriving: Arriving, name: str) -> Shape:
    """The shape (C, H, W) of the maps that arrive at a layer of this name.

    Raises:
        ConfigError: What arrives are no maps.
    """
    if len(arriving.shape) != 3:
        hint = "; put it before flatten" if len(arriving.shape) == 1 else ""
        raise ConfigError(
            f"{name} takes maps (height x width x channels), and {show(arriving.shape)} arrive{hint}", arriving.key
        )
    return arriving.shape


def count_windows(
    name: str, arriving: Arriving, kernel: Shape, *, stride: Shape, padding: Shape, ceil: bool = False
) -> list[int]:
    """How many windows fit in height and width.

    Args:
        name: Of the layer.
        arriving: Maps.
        kernel: Height and width of a window.
        stride: From one window to the next.
        padding: On each side.
        ceil: Whether the last window may reach beyond the edge.

    Raises:
        ConfigError: Not a single window fits.
    """
    padded = [side + 2 * p for side, p in zip(arriving.shape[1:], padding, strict=True)]
    if any(side < k for side, k in zip(padded, kernel, strict=True)):
        raise ConfigError(
            f"{name} needs at least {_by(kernel)} px with its padding of {_by(padding)}, and {show(arriving.shape)} "
            f"arrives; use a smaller kernel, more padding or fewer poolings before it",
            arriving.key,
        )
    counts = []
    for side, k, s, p in zip(padded, kernel, stride, padding, strict=True):
        count = (side - k + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= side - p:  # the last window must begin inside
            count -= 1
        counts.append(count)
    return counts


def _by(sides: Sequence[int]) -> str:
    return "x".join(str(side) for side in sides)


class Conv2d(LayerOptions):
    """A convolution."""

    spoken: ClassVar = {"Conv2D": "conv2d", "Conv2d": "conv2d"}
    main_key: ClassVar = "out_channels"
    spoken_keys: ClassVar = {"filters": "out_channels", "strides": "stride"}

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

    def build(self, arriving: Arriving) -> Built:
        channels, *sides = maps(arriving, self.name)
        if channels % self.groups or self.out_channels % self.groups:
            raise ConfigError(
                f"groups: {self.groups} must divide the {channels} channels that arrive and out_channels: "
                f"{self.out_channels}",
                arriving.key,
            )
        if self.padding != "same":
            reach = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
            sides = count_windows(self.name, arriving, reach, stride=self.stride, padding=self.padding)
        module = nn.Conv2d(
            channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
        )
        return Built(activated(module, self.activation), (self.out_channels, *sides))


class Pooling(LayerOptions):
    """What both poolings with sliding windows have."""

    module: ClassVar[type[nn.MaxPool2d | nn.AvgPool2d]]
    main_key: ClassVar = "kernel_size"
    spoken_keys: ClassVar = {"pool_size": "kernel_size", "strides": "stride"}

    kernel_size: Pair = (2, 2)
    stride: Pair | None = Field(None, description="null: the kernel's size")
    padding: Padding = (0, 0)
    ceil_mode: bool = Field(False, description="let a window reach beyond the edge")

    def build(self, arriving: Arriving) -> Built:
        channels, *_ = maps(arriving, self.name)
        kernel, stride, padding = self.kernel_size, self.stride or self.kernel_size, self.padding
        if any(p > k // 2 for p, k in zip(padding, kernel, strict=True)):
            raise ConfigError(
                f"padding {list(padding)} must be at most half of kernel_size {list(kernel)}", arriving.key
            )
        sides = count_windows(self.name, arriving, kernel, stride=stride, padding=padding, ceil=self.ceil_mode)
        return Built(self.module(kernel, stride, padding, ceil_mode=self.ceil_mode), (channels, *sides))


class MaxPool2d(Pooling):
    """The largest value of each window."""

    module: ClassVar = nn.MaxPool2d
    spoken: ClassVar = {"MaxPooling2D": "max_pool2d", "MaxPool2d": "max_pool2d"}

    name: Literal["max_pool2d"] = "max_pool2d"


class AvgPool2d(Pooling):
    """The mean of each window."""

    module: ClassVar = nn.AvgPool2d
    spoken: ClassVar = {"AveragePooling2D": "avg_pool2d", "AvgPool2d": "avg_pool2d"}

    name: Literal["avg_pool2d"] = "avg_pool2d"


class AdaptivePooling(LayerOptions):
    """What both poolings with a number of windows have."""

    module: ClassVar[type[nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d]]
    main_key: ClassVar = "output_size"

    output_size: Pair = (1, 1)

    def build(self, arriving: Arriving) -> Built:
        channels, *_ = maps(arriving, self.name)
        return Built(self.module(self.output_size), (channels, *self.output_size))


class AdaptiveAvgPool2d(AdaptivePooling):
    """Means over as many windows as are asked for; one is the mean of each map."""

    module: ClassVar = nn.AdaptiveAvgPool2d
    # The words for global poolings stand here too, because the JSON Schema lists them in this order.
    spoken: ClassVar = {"GlobalAveragePooling2D": "global_avg_pool2d", "AdaptiveAvgPool2d": "adaptive_avg_pool2d"}

    name: Literal["adaptive_avg_pool2d"] = "adaptive_avg_pool2d"


class AdaptiveMaxPool2d(AdaptivePooling):
    """Largest values over as many windows as are asked for."""

    module: ClassVar = nn.AdaptiveMaxPool2d
    spoken: ClassVar = {"GlobalMaxPooling2D": "global_max_pool2d", "AdaptiveMaxPool2d": "adaptive_max_pool2d"}

    name: Literal["adaptive_max_pool2d"] = "adaptive_max_pool2d"


class GlobalPooling(LayerOptions):
    """What both poolings of whole maps have."""

    module: ClassVar[type[nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d]]

    def build(self, arriving: Arriving) -> Built:
        channels, *_ = maps(arriving, self.name)
        return Built(nn.Sequential(self.module(1), nn.Flatten()), (channels,))


class GlobalAvgPool2d(GlobalPooling):
    """The mean of each map, as a row of values."""

    module: ClassVar = nn.AdaptiveAvgPool2d

    name: Literal["global_avg_pool2d"] = "global_avg_pool2d"


class GlobalMaxPool2d(GlobalPooling):
    """The largest value of each map, as a row of values."""

    module: ClassVar = nn.AdaptiveMaxPool2d

    name: Literal["global_max_pool2d"] = "global_max_pool2d"
