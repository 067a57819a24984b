"""What the residual networks share: their blocks, and options.

`BasicBlock`, `Bottleneck`: He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385,
figure 5. `Preactivation...`: by the same: "Identity mappings in deep residual networks", arXiv:1603.05027, figure 4e.

The layers are named as in torchvision, so that its weights fit.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cnntrain.models.options import NetworkOptions


class ResidualOptions(NetworkOptions):
    """Options of the residual networks."""

    preactivation: bool = Field(False, description="Norm and ReLU before each convolution (He et al. 2016).")
    zero_init: bool = Field(False, description="Start the last norm of each block at zero (Goyal et al. 2017).")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preactivation and self.zero_init:
            raise ValueError("zero_init has no meaning with preactivation, whose blocks do not end in a norm")
        return self

    @property
    def depth(self) -> int:
        """Layers with weights: `resnet20` has 20."""
        return int(self.name.removeprefix("resnet"))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm, and a shortcut around them; ReLU after the sum.

    Args:
        in_channels: Maps that arrive.
        width: Maps of the convolutions, which the block returns.
        stride: 2 halves the image.
        shortcut: `projection` or `padding`, see `build_shortcut`.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, *, shortcut: str = "projection") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = build_shortcut(shortcut, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        summed: Tensor = self.relu(out + self.downsample(x))
        return summed


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the width, each with batch norm, and a shortcut around them.

    Args:
        in_channels: Maps that arrive.
        width: Maps of the first two convolutions; the block returns four times as many.
        stride: 2 halves the image.
        shortcut: `projection` or `padding`, see `build_shortcut`.
        stride_placement: `v1` halves in the first 1x1, as the paper does; `v1.5` in the 3x3, which sees every pixel.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, *, shortcut: str = "projection", stride_placement: str = "v1.5"
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_placement == "v1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = build_shortcut(shortcut, in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        summed: Tensor = self.relu(out + self.downsample(x))
        return summed


class PreactivationBasicBlock(nn.Module):
    """`BasicBlock` with batch norm and ReLU before each convolution; nothing follows the sum."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, *, shortcut: str = "projection") -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU()  # what arrives may still be needed
        self.downsample = build_shortcut(shortcut, in_channels, width, stride, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, H / stride, W / stride)."""
        activated = self.relu(self.bn1(x))
        out = self.conv1(activated)
        out = self.conv2(self.relu(self.bn2(out)))
        summed: Tensor = out + (x if isinstance(self.downsample, nn.Identity) else self.downsample(activated))
        return summed


class PreactivationBottleneck(nn.Module):
    """`Bottleneck` with batch norm and ReLU before each convolution; nothing follows the sum."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, *, shortcut: str = "projection", stride_placement: str = "v1.5"
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_placement == "v1" else (1, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride=first, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.relu = nn.ReLU()  # what arrives may still be needed
        self.downsample = build_shortcut(shortcut, in_channels, width * self.expansion, stride, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        activated = self.relu(self.bn1(x))
        out = self.conv1(activated)
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        summed: Tensor = out + (x if isinstance(self.downsample, nn.Identity) else self.downsample(activated))
        return summed


class PaddingShortcut(nn.Module):
    """Every `stride`-th pixel, and zeros for the new maps. No parameters."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + new_channels, H / stride, W / stride)."""
        half = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new_channels - half))


def build_shortcut(kind: str, in_channels: int, out_channels: int, stride: int, *, norm: bool = True) -> nn.Module:
    """The way around a block: nothing at all, where it keeps the shape.

    Args:
        kind: `projection`, a 1x1 convolution (the paper's option B), or `padding`, zeros for the new maps (option A).
        in_channels: Maps that arrive.
        out_channels: Maps that the block returns.
        stride: Of the block.
        norm: Whether batch norm follows the projection.
    """
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "padding":
        return PaddingShortcut(out_channels - in_channels, stride)
    projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels)) if norm else projection


class Blocks(NamedTuple):
    """The blocks of a residual network.

    Attributes:
        build: A block, from its (in_channels, width, stride).
        expansion: How many times the width it returns.
    """

    build: Callable[[int, int, int], nn.Module]
    expansion: int

    def stage(self, in_channels: int, width: int, num_blocks: int, *, stride: int) -> nn.Sequential:
        """Blocks one after the other, of which the first may halve the image."""
        first = self.build(in_channels, width, stride)
        return nn.Sequential(first, *(self.build(width * self.expansion, width, 1) for _ in range(num_blocks - 1)))


def plain_blocks(*, preactivation: bool, shortcut: str) -> Blocks:
    """Blocks of two 3x3 convolutions."""
    block = PreactivationBasicBlock if preactivation else BasicBlock
    return Blocks(lambda *shape: block(*shape, shortcut=shortcut), block.expansion)


def bottlenecks(*, preactivation: bool, shortcut: str, stride_placement: str) -> Blocks:
    """Blocks of a 3x3 convolution between two 1x1."""
    block = PreactivationBottleneck if preactivation else Bottleneck
    return Blocks(lambda *shape: block(*shape, shortcut=shortcut, stride_placement=stride_placement), block.expansion)


def zero_last_norms(model: nn.Module) -> None:
    """Lets every block start as its shortcut alone (Goyal et al., arXiv:1706.02677, section 5.1)."""
    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)
