"""The convolution."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from cnntrain.errors import ConfigError
from cnntrain.models.layers.activations import Activation, activated
from cnntrain.models.layers.base import Arriving, Built, LayerOptions, Size
from cnntrain.models.layers.windows import Pair, SamePadding, count_windows, maps


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
