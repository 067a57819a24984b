"""A compact residual network for the fastest training on 32x32 images: eight convolutions and a linear layer.

David Page: "How to train your ResNet" (2018), the network with which he led Stanford's DAWNBench on CIFAR-10.
Parameters for 10 classes on 3x32x32: 6,573,120 at width 64.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.models.initialise import kaiming_fan_out
from cnntrain.models.options import CIFAR, Entry, NetworkOptions, check_images

SMALLEST_INPUT = 8
OUTPUT_SCALE = 0.125  # of the logits, so that training starts gently


class Resnet9(NetworkOptions):
    """A compact residual network of eight convolutions (Page 2018), for the fastest training on 32x32 images."""

    usual: ClassVar = (Entry({"name": "resnet9"}, *CIFAR, SMALLEST_INPUT, "Page 2018 (DAWNBench)"),)

    name: Literal["resnet9"] = "resnet9"
    width: Annotated[int, Field(gt=0, le=4096)] = Field(
        64, description="Maps of the first convolution; the last has eight times as many."
    )

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        return ResNet9(inputs, num_outputs, width=self.width)


class ResNet9(nn.Module):
    """Wide and shallow: three halvings by max pooling, and two residual blocks.

    Deviations: batch norm's scales are trained, where Page holds them constant in some versions.

    Args:
        inputs: Images of at least 8 px.
        num_outputs: Size of the output.
        width: Maps of the first convolution; the last has eight times as many.

    Raises:
        ConfigError: The images are too small, or it is no image that arrives.
    """

    stages = {  # noqa: RUF012 (constant)
        "stem": ("stem",),
        "layer1": ("layer1",),
        "layer2": ("layer2",),
        "layer3": ("layer3",),
        "head": ("maxpool", "fc"),
    }

    def __init__(self, inputs: Inputs, num_outputs: int, *, width: int) -> None:
        super().__init__()
        check_images("resnet9", inputs, SMALLEST_INPUT)
        self.stem = _convolution(inputs.channels, width)
        self.layer1 = nn.Sequential(_convolution(width, 2 * width, pool=True), Residual(2 * width))
        self.layer2 = _convolution(2 * width, 4 * width, pool=True)
        self.layer3 = nn.Sequential(_convolution(4 * width, 8 * width, pool=True), Residual(8 * width))
        self.maxpool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(8 * width, num_outputs, bias=False)
        kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W), normalised -> logits (N, num_outputs). Shapes at 32 px, width 64."""
        x = self.stem(images)  # 64 x 32 x 32
        x = self.layer1(x)  # 128 x 16 x 16
        x = self.layer2(x)  # 256 x 8 x 8
        x = self.layer3(x)  # 512 x 4 x 4
        logits: Tensor = self.fc(self.maxpool(x).flatten(1)) * OUTPUT_SCALE
        return logits


class Residual(nn.Module):
    """Two convolutions added to what arrives, which keeps its own way."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        out: Tensor = x + self.layers(x)
        return out


def _convolution(in_channels: int, out_channels: int, *, pool: bool = False) -> nn.Sequential:
    layers = [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)
