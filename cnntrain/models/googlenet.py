"""GoogLeNet, which won ImageNet in 2014 with inception modules.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: "Going deeper with convolutions",
arXiv:1409.4842, table 1 and figure 3.
Parameters for 1,000 classes, without and with the auxiliary classifiers: 6,998,552 and 13,378,280 as in the paper,
6,624,904 and 13,004,888 as in torchvision.
"""

from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cnntrain.config.section import Fraction
from cnntrain.data.inputs import Inputs
from cnntrain.models.alexnet import LocalResponseNorm
from cnntrain.models.initialise import initialise
from cnntrain.models.options import CIFAR, IMAGENET, Entry, NetworkOptions, Published, WithAuxiliary, check_images

SMALLEST_INPUT = {"paper": 31, "torchvision": 15, "small": 8}
_PAPER = "arXiv:1409.4842"


class Googlenet(NetworkOptions):
    """GoogLeNet (Szegedy et al. 2014)."""

    usual: ClassVar = (
        Entry({"name": "googlenet", "variant": "paper"}, *IMAGENET, SMALLEST_INPUT["paper"], _PAPER),
        Entry({"name": "googlenet", "variant": "torchvision"}, *IMAGENET, SMALLEST_INPUT["torchvision"], _PAPER),
        Entry({"name": "googlenet", "variant": "small"}, *CIFAR, SMALLEST_INPUT["small"], f"after {_PAPER}"),
    )

    name: Literal["googlenet"] = "googlenet"
    variant: Literal["paper", "torchvision", "small"] = Field(
        "torchvision", description="torchvision: 3x3 where the paper has 5x5; small: for images around 32 px."
    )
    auxiliary: bool = Field(True, description="Train with the two auxiliary classifiers.")
    aux_weight: Fraction = Field(0.3, description="By how much each auxiliary loss counts.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.auxiliary:
            self._refuse(aux_weight="auxiliary: true")
        return self

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        return GoogLeNet(
            inputs, num_outputs, variant=self.variant, auxiliary=self.auxiliary, aux_weight=self.aux_weight
        )

    @property
    def published(self) -> Published | None:
        if self.variant != "torchvision":
            return None
        # Its weights come from another library; torchvision's network turns ImageNet's mean and std into these.
        halves = (0.5, 0.5, 0.5)
        arguments = (f"aux_logits={self.auxiliary}", "init_weights=False")
        return Published("googlenet", arguments, mean=halves, std=halves)


class Widths(NamedTuple):
    """Maps of the parts of an inception module: a row of the paper's table 1."""

    pointwise: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def total(self) -> int:
        """Maps that the module returns."""
        return self.pointwise + self.three + self.five + self.pool


_TABLE = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """Nine inception modules between a stem and a linear layer, and two auxiliary classifiers for training.

    Variants:
    - `paper`: 5x5 branches as drawn, local response normalisation in the stem (with AlexNet's constants, for the paper
      names none), no batch norm. The paper does not say
      how its weights were drawn; here after Caffe's reproduction (Xavier, biases 0.2).
    - `torchvision`: every convolution with batch norm, 3x3 where the paper has 5x5 (an old mistake that its published
      weights keep), no local response normalisation, dropout 0.2; layers named as in torchvision.
    - `small`: for images around 32 px: the modules of the table with batch norm and true 5x5 branches behind a stem
      that halves the image once. Not in any paper.

    Args:
        inputs: Images of at least 31 px as in the paper, 15 as in torchvision, 8 for `small`.
        num_outputs: Size of the output.
        variant: See above.
        auxiliary: Whether to have the two auxiliary classifiers, after 4a and 4d. They work in training mode alone.
        aux_weight: By how much each of their losses counts; 0.3 in the paper.

    Raises:
        ConfigError: The images are too small, or it is no image that arrives.
    """

    stages = {  # noqa: RUF012 (constant)
        "stem": ("conv1", "conv2", "conv3"),
        "inception3": ("inception3a", "inception3b"),
        "inception4": ("inception4a", "inception4b", "inception4c", "inception4d", "inception4e"),
        "inception5": ("inception5a", "inception5b"),
        "head": ("aux1", "aux2", "avgpool", "dropout", "fc"),
    }

    def __init__(self, inputs: Inputs, num_outputs: int, *, variant: str, auxiliary: bool, aux_weight: float) -> None:
        super().__init__()
        hint = f"; variant: small takes {SMALLEST_INPUT['small']} px and more" if variant != "small" else ""
        check_images(f"GoogLeNet, variant {variant},", inputs, SMALLEST_INPUT[variant], hint)
        norm = variant != "paper"
        self._build_stem(inputs.channels, variant, norm=norm)
        self._build_inceptions(variant, norm=norm)
        # The paper pools 5x5 with stride 3, from 14x14 to 4x4. Maps of another size are averaged to 4x4.
        as_published = variant == "paper" and all((side + 1) // 2 // 8 == 14 for side in inputs.size)
        self.aux1 = self.aux2 = None
        if auxiliary:
            pool = nn.AvgPool2d(5, stride=3) if as_published else nn.AdaptiveAvgPool2d(4)
            self.aux1 = AuxiliaryClassifier(_TABLE["4a"].total, num_outputs, pool, norm=norm)
            self.aux2 = AuxiliaryClassifier(_TABLE["4d"].total, num_outputs, pool, norm=norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2 if variant == "torchvision" else 0.4)
        self.fc = nn.Linear(_TABLE["5b"].total, num_outputs)
        self.aux_weight = aux_weight
        match variant:
            case "paper":
                self.paper_init()
            case "torchvision":
                self._torchvision_init()
            case "small":
                initialise(self, "kaiming")

    def _build_stem(self, in_channels: int, variant: str, *, norm: bool) -> None:
        if variant == "small":
            self.conv1 = Convolution(in_channels, 64, 3, norm=norm)
        else:
            self.conv1 = Convolution(in_channels, 64, 7, stride=2, norm=norm)
        self.maxpool1 = _halving()
        self.norm1 = LocalResponseNorm() if variant == "paper" else nn.Identity()
        self.conv2 = Convolution(64, 64, 1, norm=norm)
        self.conv3 = Convolution(64, 192, 3, norm=norm)
        self.norm2 = LocalResponseNorm() if variant == "paper" else nn.Identity()
        self.maxpool2 = _halving() if variant != "small" else nn.Identity()

    def _build_inceptions(self, variant: str, *, norm: bool) -> None:
        five = 3 if variant == "torchvision" else 5

        def inception(name: str, in_channels: int) -> Inception:
            return Inception(in_channels, _TABLE[name], five=five, norm=norm)

        self.inception3a = inception("3a", 192)
        self.inception3b = inception("3b", _TABLE["3a"].total)
        self.maxpool3 = _halving()
        self.inception4a = inception("4a", _TABLE["3b"].total)
        self.inception4b = inception("4b", _TABLE["4a"].total)
        self.inception4c = inception("4c", _TABLE["4b"].total)
        self.inception4d = inception("4d", _TABLE["4c"].total)
        self.inception4e = inception("4e", _TABLE["4d"].total)
        self.maxpool4 = _halving(2 if variant == "torchvision" else 3)
        self.inception5a = inception("5a", _TABLE["4e"].total)
        self.inception5b = inception("5b", _TABLE["5a"].total)

    def paper_init(self) -> None:
        """After Caffe's reproduction of the paper: Xavier's weights, biases 0.2 before ReLUs, else 0."""
        initialise(self, "xavier")
        for name, module in self.named_modules():
            before_relu = isinstance(module, nn.Conv2d) or name.endswith("fc1")
            if before_relu and isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.constant_(module.bias, 0.2)

    def _torchvision_init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-2, b=2)

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        """Images float32 (N, C, H, W), normalised -> logits (N, num_outputs). Shapes at 224 px.

        In training mode, with auxiliary classifiers: `WithAuxiliary`.
        """
        x = self.norm1(self.maxpool1(self.conv1(images)))  # 64 x 56 x 56
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))  # 192 x 28 x 28
        x = self.inception3b(self.inception3a(x))  # 480 x 28 x 28
        x = at_4a = self.inception4a(self.maxpool3(x))  # 512 x 14 x 14
        x = at_4d = self.inception4d(self.inception4c(self.inception4b(x)))  # 528 x 14 x 14
        x = self.inception4e(x)  # 832 x 14 x 14
        x = self.inception5b(self.inception5a(self.maxpool4(x)))  # 1024 x 7 x 7
        logits: Tensor = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return WithAuxiliary(logits, (self.aux1(at_4a), self.aux2(at_4d)), self.aux_weight)
        return logits


class Convolution(nn.Module):
    """A convolution that keeps the size (divided by the stride), perhaps batch norm, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, norm: bool, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=not norm)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001) if norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Inception(nn.Module):
    """Four ways side by side, their maps stacked: 1x1; 1x1 and 3x3; 1x1 and 5x5; max pooling and 1x1.

    Args:
        in_channels: Maps that arrive.
        widths: Maps of each part.
        five: Kernel size of the third branch: 5 in the paper, 3 in torchvision.
        norm: Whether convolutions have batch norm.
    """

    def __init__(self, in_channels: int, widths: Widths, *, five: int, norm: bool) -> None:
        super().__init__()
        self.branch1 = Convolution(in_channels, widths.pointwise, 1, norm=norm)
        self.branch2 = nn.Sequential(
            Convolution(in_channels, widths.three_reduce, 1, norm=norm),
            Convolution(widths.three_reduce, widths.three, 3, norm=norm),
        )
        self.branch3 = nn.Sequential(
            Convolution(in_channels, widths.five_reduce, 1, norm=norm),
            Convolution(widths.five_reduce, widths.five, five, norm=norm),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), Convolution(in_channels, widths.pool, 1, norm=norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, widths.total, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class AuxiliaryClassifier(nn.Module):
    """Section 5's classifier on the side: pooling to 4x4, a 1x1 convolution, two linear layers, dropout 0.7."""

    def __init__(self, in_channels: int, num_outputs: int, pool: nn.Module, *, norm: bool) -> None:
        super().__init__()
        self.pool = pool
        self.conv = Convolution(in_channels, 128, 1, norm=norm)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_outputs)."""
        x = self.conv(self.pool(x)).flatten(1)
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(x))))
        return logits


def _halving(kernel_size: int = 3) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)
