"""The residual networks for ImageNet.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385, table 1.
Parameters for 1,000 classes: 11,689,512 at 18 layers, 21,797,672 at 34, 25,557,032 at 50.

The names of the layers are torchvision's, so that its weights fit. As there, a bottleneck halves the image in its
3x3 convolution unless told otherwise ("v1.5"); the paper does it in the first 1x1 ("v1").
"""

from torch import Tensor, nn

from cnntrain.models.checks import check_image_size
from cnntrain.models.initialise import kaiming_fan_out
from cnntrain.models.residual import build_block, zero_last_norms

SMALLEST_INPUT = {"imagenet": 32, "small": 8}

_NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNet(nn.Module):
    """ResNet-18, 34, 50, 101 or 152.

    Args:
        depth: Layers with weights.
        in_channels: 1 for grey, 3 for colour images.
        num_classes: Size of the output.
        image_size: Side of the square input, px; at least 32 (8 with the small stem).
        stem: `imagenet` (7x7 with stride 2 and a max pooling) or `small` (3x3 without either).
        stride_placement: `v1.5` or `v1`, see `residual.Bottleneck`; 18 and 34 layers have no bottlenecks.
        shortcut: `projection` or `padding`, see `residual.build_shortcut`.
        preactivation: Norm and ReLU before each convolution (arXiv:1603.05027); as in its appendix, those of the
            first block stand in the stem, before the two ways part, and a norm and ReLU follow the last block.
        zero_init: Start the last norm of each block at zero.

    Raises:
        ConfigError: The image is too small.
    """

    stages = {  # noqa: RUF012 (constant)
        "stem": ("conv1", "bn1"),
        "layer1": ("layer1",),
        "layer2": ("layer2",),
        "layer3": ("layer3",),
        "layer4": ("layer4", "last_bn"),
        "head": ("avgpool", "fc"),
    }

    def __init__(
        self,
        depth: int,
        in_channels: int,
        num_classes: int,
        image_size: int,
        *,
        stem: str = "imagenet",
        stride_placement: str = "v1.5",
        shortcut: str = "projection",
        preactivation: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        hint = f"; model.stem: small takes {SMALLEST_INPUT['small']} px and more" if stem == "imagenet" else ""
        check_image_size(f"resnet{depth} with the {stem} stem", image_size, SMALLEST_INPUT[stem], hint)
        block, expansion = build_block(
            bottleneck=depth >= 50,
            preactivation=preactivation,
            shortcut=shortcut,
            stride_placement=stride_placement,
        )

        def stage(in_channels: int, width: int, num_blocks: int, stride: int) -> nn.Sequential:
            first = block(in_channels, width, stride)
            return nn.Sequential(first, *(block(width * expansion, width, 1) for _ in range(num_blocks - 1)))

        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        num_blocks = _NUM_BLOCKS[depth]
        self.layer1 = stage(64, 64, num_blocks[0], stride=1)
        self.layer2 = stage(64 * expansion, 128, num_blocks[1], stride=2)
        self.layer3 = stage(128 * expansion, 256, num_blocks[2], stride=2)
        self.layer4 = stage(256 * expansion, 512, num_blocks[3], stride=2)
        if preactivation:
            self.layer1[0].bn1 = nn.Identity()
        self.last_bn = nn.BatchNorm2d(512 * expansion) if preactivation else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * expansion, num_classes)
        self.preactivation = preactivation
        self.paper_init()
        if zero_init:
            zero_last_norms(self)

    def paper_init(self) -> None:
        """He et al., arXiv:1502.01852, which is this network's own way too."""
        kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, S, S), normalised -> logits (N, num_classes). Shapes at 224 px, 18 layers."""
        x = self.relu(self.bn1(self.conv1(images)))  # 64 x 112 x 112
        x = self.maxpool(x)  # 64 x 56 x 56
        x = self.layer1(x)
        x = self.layer2(x)  # 128 x 28 x 28
        x = self.layer3(x)  # 256 x 14 x 14
        x = self.layer4(x)  # 512 x 7 x 7
        if self.preactivation:
            x = self.relu(self.last_bn(x))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits
