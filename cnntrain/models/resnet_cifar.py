"""The residual networks for 32x32 images.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2: 6n + 2 layers,
three stages of 16, 32 and 64 maps, shortcuts without parameters (option A). Parameters for 10 classes on 3x32x32:
269,722 at 20 layers, 853,018 at 56.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.models.initialise import kaiming_fan_out
from cnntrain.models.options import CIFAR, Entry, check_images
from cnntrain.models.residual import ResidualOptions, plain_blocks, zero_last_norms

SMALLEST_INPUT = 8
_NAMES = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")


class CifarResnet(ResidualOptions):
    """The residual networks for 32x32 images (He et al. 2015, section 4.2)."""

    usual: ClassVar = tuple(Entry({"name": name}, *CIFAR, SMALLEST_INPUT, "arXiv:1512.03385") for name in _NAMES)

    name: Literal["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"] = "resnet20"
    shortcut: Literal["padding", "projection"] = Field("padding", description="Where a block changes the shape.")

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        return CifarResNet(
            inputs,
            num_outputs,
            depth=self.depth,
            shortcut=self.shortcut,
            preactivation=self.preactivation,
            zero_init=self.zero_init,
        )


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56 or 110 for small images.

    Args:
        inputs: Images of at least 8 px.
        num_outputs: Size of the output.
        depth: Layers with weights, 6n + 2.
        shortcut: `padding`, as in the paper, or `projection`, see `residual.build_shortcut`.
        preactivation: Norm and ReLU before each convolution (arXiv:1603.05027); as in its appendix, those of the
            first block stand in the stem, before the two ways part, and a norm and ReLU follow the last block.
        zero_init: Start the last norm of each block at zero.

    Raises:
        ConfigError: The images are too small, or it is no image that arrives.
        ValueError: The depth is not 6n + 2.
    """

    stages = {  # noqa: RUF012 (constant)
        "stem": ("conv1", "bn1"),
        "layer1": ("layer1",),
        "layer2": ("layer2",),
        "layer3": ("layer3", "last_bn"),
        "head": ("avgpool", "fc"),
    }

    def __init__(
        self, inputs: Inputs, num_outputs: int, *, depth: int, shortcut: str, preactivation: bool, zero_init: bool
    ) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (got {depth})")
        check_images(f"resnet{depth}", inputs, SMALLEST_INPUT)
        blocks, num_blocks = plain_blocks(preactivation=preactivation, shortcut=shortcut), (depth - 2) // 6
        self.conv1 = nn.Conv2d(inputs.channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = blocks.stage(16, 16, num_blocks, stride=1)
        self.layer2 = blocks.stage(16, 32, num_blocks, stride=2)
        self.layer3 = blocks.stage(32, 64, num_blocks, stride=2)
        if preactivation:
            self.layer1[0].bn1 = nn.Identity()
        self.last_bn = nn.BatchNorm2d(64) if preactivation else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_outputs)
        self.preactivation = preactivation
        self.paper_init()
        if zero_init:
            zero_last_norms(self)

    def paper_init(self) -> None:
        """He et al., arXiv:1502.01852, which is this network's own way too."""
        kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W), normalised -> logits (N, num_outputs). Shapes at 32 px."""
        x = self.relu(self.bn1(self.conv1(images)))  # 16 x 32 x 32
        x = self.layer1(x)
        x = self.layer2(x)  # 32 x 16 x 16
        x = self.layer3(x)  # 64 x 8 x 8
        if self.preactivation:
            x = self.relu(self.last_bn(x))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits
