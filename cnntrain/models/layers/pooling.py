"""Poolings: windows that slide, a number of windows, or one window over the whole map."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from cnntrain.errors import ConfigError
from cnntrain.models.layers.base import Arriving, Built, LayerOptions
from cnntrain.models.layers.windows import Padding, Pair, count_windows, maps


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
