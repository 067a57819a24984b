"""The residual networks for ImageNet.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385, table 1.
Parameters for 1,000 classes: 11,689,512 at 18 layers, 25,557,032 at 50.

The names of the layers are torchvision's, so that its weights fit. As there, a bottleneck halves the
image in its 3x3 convolution ("v1.5"); the paper does it in the first 1x1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.errors import ConfigError
from cnntrain.models.initialise import kaiming_normal

SMALLEST_INPUT = {"imagenet": 32, "small": 8}

_NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the width, and a shortcut around them."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet-18, 34, 50, 101 or 152.

    Args:
        depth: Layers with weights.
        in_channels: 1 for grey, 3 for colour images.
        num_classes: Size of the output.
        image_size: Side of the square input, px; at least 32 (8 with the small stem).
        stem: `imagenet` (7x7 with stride 2 and a max pooling) or `small` (3x3 without either).

    Raises:
        ConfigError: The image is too small.
    """

    def __init__(
        self, depth: int, in_channels: int, num_classes: int, image_size: int, *, stem: str = "imagenet"
    ) -> None:
        super().__init__()
        if image_size < SMALLEST_INPUT[stem]:
            raise ConfigError(
                f"resnet{depth} with the {stem} stem needs images of at least {SMALLEST_INPUT[stem]} px "
                f"(got {image_size}); model.stem: small takes {SMALLEST_INPUT['small']} px and more",
                key="data.image_size",
            )
        block = BasicBlock if depth < 50 else Bottleneck
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        num_blocks, expansion = _NUM_BLOCKS[depth], block.expansion
        self.layer1 = _stage(block, 64, 64, num_blocks[0], stride=1)
        self.layer2 = _stage(block, 64 * expansion, 128, num_blocks[1], stride=2)
        self.layer3 = _stage(block, 128 * expansion, 256, num_blocks[2], stride=2)
        self.layer4 = _stage(block, 256 * expansion, 512, num_blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * expansion, num_classes)
        kaiming_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, S, S), normalised -> logits (N, num_classes). Shapes at 224 px, 18 layers."""
        x = self.relu(self.bn1(self.conv1(images)))  # 64 x 112 x 112
        x = self.maxpool(x)  # 64 x 56 x 56
        x = self.layer1(x)
        x = self.layer2(x)  # 128 x 28 x 28
        x = self.layer3(x)  # 256 x 14 x 14
        x = self.layer4(x)  # 512 x 7 x 7
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, width: int, num_blocks: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(num_blocks - 1)))


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
