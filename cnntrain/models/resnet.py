"""The residual networks for ImageNet.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv:1512.03385, table 1.
Parameters for 1,000 classes: 11,689,512 at 18 layers, 21,797,672 at 34, 25,557,032 at 50.

The names of the layers are torchvision's, so that its weights fit. As there, a bottleneck halves the image in its
3x3 convolution unless told otherwise ("v1.5"); the paper does it in the first 1x1 ("v1").
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.models.initialise import kaiming_fan_out
from cnntrain.models.options import CIFAR, IMAGENET, Entry, Published, check_images
from cnntrain.models.residual import ResidualOptions, bottlenecks, plain_blocks, zero_last_norms

SMALLEST_INPUT = {"imagenet": 32, "small": 8}

_NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_PAPER = "arXiv:1512.03385"


class Resnet(ResidualOptions):
    """The residual networks for ImageNet (He et al. 2015, table 1)."""

    usual: ClassVar = (
        Entry({"name": "resnet18"}, *IMAGENET, SMALLEST_INPUT["imagenet"], _PAPER),
        Entry({"name": "resnet18", "stem": "small"}, *CIFAR, SMALLEST_INPUT["small"], f"after {_PAPER}"),
        Entry({"name": "resnet34"}, *IMAGENET, SMALLEST_INPUT["imagenet"], _PAPER),
        Entry({"name": "resnet50"}, *IMAGENET, SMALLEST_INPUT["imagenet"], _PAPER),
        Entry({"name": "resnet101"}, *IMAGENET, SMALLEST_INPUT["imagenet"], _PAPER),
        Entry({"name": "resnet152"}, *IMAGENET, SMALLEST_INPUT["imagenet"], _PAPER),
    )

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18"
    stem: Literal["imagenet", "small"] = Field(
        "imagenet", description="small: a 3x3 first convolution without stride or pooling, for images around 32 px."
    )
    stride_placement: Literal["v1.5", "v1"] = Field(
        "v1.5", description="Which convolution of a bottleneck halves the image: the 3x3 (v1.5) or the first 1x1 (v1)."
    )
    shortcut: Literal["projection", "padding"] = Field("projection", description="Where a block changes the shape.")

    @model_validator(mode="after")
    def _check_bottleneck(self) -> Self:
        if self.name in ("resnet18", "resnet34"):
            self._refuse(stride_placement="networks with bottlenecks: resnet50, resnet101, resnet152")
        return self

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        return ResNet(
            inputs,
            num_outputs,
            depth=self.depth,
            stem=self.stem,
            stride_placement=self.stride_placement,
            shortcut=self.shortcut,
            preactivation=self.preactivation,
            zero_init=self.zero_init,
        )

    @property
    def published(self) -> Published | None:
        changed = (self.stem, self.stride_placement, self.shortcut, self.preactivation)
        return Published(self.name) if changed == ("imagenet", "v1.5", "projection", False) else None


class ResNet(nn.Module):
    """ResNet-18, 34, 50, 101 or 152.

    Args:
        inputs: Images of at least 32 px (8 with the small stem).
        num_outputs: Size of the output.
        depth: Layers with weights.
        stem: `imagenet` (7x7 with stride 2 and a max pooling) or `small` (3x3 without either).
        stride_placement: `v1.5` or `v1`, see `residual.Bottleneck`; 18 and 34 layers have no bottlenecks.
        shortcut: `projection` or `padding`, see `residual.build_shortcut`.
        preactivation: Norm and ReLU before each convolution (arXiv:1603.05027); as in its appendix, those of the
            first block stand in the stem, before the two ways part, and a norm and ReLU follow the last block.
        zero_init: Start the last norm of each block at zero.

    Raises:
        ConfigError: The images are too small, or it is no image that arrives.
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
        inputs: Inputs,
        num_outputs: int,
        *,
        depth: int,
        stem: str,
        stride_placement: str,
        shortcut: str,
        preactivation: bool,
        zero_init: bool,
    ) -> None:
        super().__init__()
        hint = f"; model.stem: small takes {SMALLEST_INPUT['small']} px and more" if stem == "imagenet" else ""
        check_images(f"resnet{depth} with the {stem} stem", inputs, SMALLEST_INPUT[stem], hint)
        if depth < 50:
            blocks = plain_blocks(preactivation=preactivation, shortcut=shortcut)
        else:
            blocks = bottlenecks(preactivation=preactivation, shortcut=shortcut, stride_placement=stride_placement)
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(inputs.channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(inputs.channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        num_blocks, expansion = _NUM_BLOCKS[depth], blocks.expansion
        self.layer1 = blocks.stage(64, 64, num_blocks[0], stride=1)
        self.layer2 = blocks.stage(64 * expansion, 128, num_blocks[1], stride=2)
        self.layer3 = blocks.stage(128 * expansion, 256, num_blocks[2], stride=2)
        self.layer4 = blocks.stage(256 * expansion, 512, num_blocks[3], stride=2)
        if preactivation:
            self.layer1[0].bn1 = nn.Identity()
        self.last_bn = nn.BatchNorm2d(512 * expansion) if preactivation else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * expansion, num_outputs)
        self.preactivation = preactivation
        self.paper_init()
        if zero_init:
            zero_last_norms(self)

    def paper_init(self) -> None:
        """He et al., arXiv:1502.01852, which is this network's own way too."""
        kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W), normalised -> logits (N, num_outputs). Shapes at 224 px, 18 layers."""
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
