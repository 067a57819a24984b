"""The residual networks for 32x32 images.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2: 6n + 2 layers,
three stages of 16, 32 and 64 maps, shortcuts without parameters (option A). Parameters for 10 classes on 3x32x32:
269,722 at 20 layers, 853,018 at 56.
"""

from torch import Tensor, nn

from cnntrain.models.checks import check_image_size
from cnntrain.models.initialise import kaiming_fan_out
from cnntrain.models.residual import build_block, zero_last_norms

SMALLEST_INPUT = 8


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56 or 110 for small images.

    Args:
        depth: Layers with weights, 6n + 2.
        in_channels: 1 for grey, 3 for colour images.
        num_classes: Size of the output.
        image_size: Side of the square input, px; at least 8.
        shortcut: `padding`, as in the paper, or `projection`, see `residual.build_shortcut`.
        preactivation: Norm and ReLU before each convolution (arXiv:1603.05027); as in its appendix, those of the
            first block stand in the stem, before the two ways part, and a norm and ReLU follow the last block.
        zero_init: Start the last norm of each block at zero.

    Raises:
        ConfigError: The image is too small.
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
        self,
        depth: int,
        in_channels: int,
        num_classes: int,
        image_size: int,
        *,
        shortcut: str = "padding",
        preactivation: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (got {depth})")
        check_image_size(f"resnet{depth}", image_size, SMALLEST_INPUT)
        block, _ = build_block(
            bottleneck=False, preactivation=preactivation, shortcut=shortcut, stride_placement="v1.5"
        )

        def stage(in_channels: int, width: int, stride: int) -> nn.Sequential:
            num_blocks = (depth - 2) // 6
            first = block(in_channels, width, stride)
            return nn.Sequential(first, *(block(width, width, 1) for _ in range(num_blocks - 1)))

        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(16, 16, stride=1)
        self.layer2 = stage(16, 32, stride=2)
        self.layer3 = stage(32, 64, stride=2)
        if preactivation:
            self.layer1[0].bn1 = nn.Identity()
        self.last_bn = nn.BatchNorm2d(64) if preactivation else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        self.preactivation = preactivation
        self.paper_init()
        if zero_init:
            zero_last_norms(self)

    def paper_init(self) -> None:
        """He et al., arXiv:1502.01852, which is this network's own way too."""
        kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, S, S), normalised -> logits (N, num_classes). Shapes at 32 px."""
        x = self.relu(self.bn1(self.conv1(images)))  # 16 x 32 x 32
        x = self.layer1(x)
        x = self.layer2(x)  # 32 x 16 x 16
        x = self.layer3(x)  # 64 x 8 x 8
        if self.preactivation:
            x = self.relu(self.last_bn(x))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits
