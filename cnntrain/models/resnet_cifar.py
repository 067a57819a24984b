"""The residual networks for 32x32 images.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385,
section 4.2: 6n + 2 layers, three stages of 16, 32 and 64 maps, shortcuts without parameters
(option A). Parameters for 10 classes on 3x32x32: 269,722 at 20 layers.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.errors import ConfigError
from cnntrain.models.initialise import kaiming_normal

SMALLEST_INPUT = 8


class PaddingShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the new maps. No parameters."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + new_channels, H / 2, W / 2)."""
        half = self.new_channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.new_channels - half))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity() if stride == 1 else PaddingShortcut(out_channels - in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56 or 110 for small images.

    Args:
        depth: Layers with weights, 6n + 2.
        in_channels: 1 for grey, 3 for colour images.
        num_classes: Size of the output.
        image_size: Side of the square input, px; at least 8.

    Raises:
        ConfigError: The image is too small.
        ValueError: The depth is not 6n + 2.
    """

    def __init__(self, depth: int, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (got {depth})")
        if image_size < SMALLEST_INPUT:
            raise ConfigError(
                f"resnet{depth} needs images of at least {SMALLEST_INPUT} px (got {image_size})", key="data.image_size"
            )
        num_blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(16, 16, num_blocks, stride=1)
        self.layer2 = _stage(16, 32, num_blocks, stride=2)
        self.layer3 = _stage(32, 64, num_blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        kaiming_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, S, S), normalised -> logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(images)))  # 16 x 32 x 32
        x = self.layer1(x)
        x = self.layer2(x)  # 32 x 16 x 16
        x = self.layer3(x)  # 64 x 8 x 8
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(in_channels: int, out_channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1)))
