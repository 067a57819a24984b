"""AlexNet, which won ImageNet in 2012.

Krizhevsky, Sutskever, Hinton: "ImageNet classification with deep convolutional neural networks", NIPS 2012.
Krizhevsky: "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997 (torchvision's form).
Parameters for 1,000 classes: 60,965,224 as in the paper, 61,100,840 as in torchvision.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.models.initialise import initialise
from cnntrain.models.options import CIFAR, IMAGENET, Entry, NetworkOptions, Published, check_images

SMALLEST_INPUT = {"paper": 63, "torchvision": 63, "small": 15}
_PAPER = "Krizhevsky et al. 2012"


class Alexnet(NetworkOptions):
    """AlexNet (Krizhevsky et al. 2012)."""

    usual: ClassVar = (
        Entry({"name": "alexnet", "variant": "paper"}, *IMAGENET, SMALLEST_INPUT["paper"], f"{_PAPER}, NIPS"),
        Entry(
            {"name": "alexnet", "variant": "torchvision"}, *IMAGENET, SMALLEST_INPUT["torchvision"], "arXiv:1404.5997"
        ),
        Entry({"name": "alexnet", "variant": "small"}, *CIFAR, SMALLEST_INPUT["small"], f"after {_PAPER}"),
    )

    name: Literal["alexnet"] = "alexnet"
    variant: Literal["paper", "torchvision", "small"] = Field(
        "torchvision", description="small: 3x3 convolutions without stride, for images around 32 px."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        return AlexNet(inputs, num_outputs, variant=self.variant, dropout=self.dropout)

    @property
    def published(self) -> Published | None:
        return Published("alexnet") if self.variant == "torchvision" else None


class AlexNet(nn.Module):
    """Five convolutions and three linear layers.

    Variants:
    - `paper`: two groups of convolutions (the paper's two GPUs), local response normalisation, overlapping pooling,
      and the paper's initial weights. Deviations: one 224x224 crop is padded by 2, which gives the 55x55 maps that
      the paper's figure shows; other sizes are averaged to 6x6 before the linear layers.
    - `torchvision`: arXiv:1404.5997, without groups and normalisation; layers named as in torchvision.
    - `small`: for images around 32 px: 3x3 convolutions without stride, and linear layers of 1,024. Not in any paper.

    Args:
        inputs: Images of at least 63 px (15 for `small`).
        num_outputs: Size of the output.
        variant: See above.
        dropout: Probability of dropping a value before each of the two hidden linear layers.

    Raises:
        ConfigError: The images are too small, or it is no image that arrives.
    """

    def __init__(self, inputs: Inputs, num_outputs: int, *, variant: str, dropout: float) -> None:
        super().__init__()
        hint = f"; variant: small takes {SMALLEST_INPUT['small']} px and more" if variant != "small" else ""
        check_images(f"AlexNet, variant {variant},", inputs, SMALLEST_INPUT[variant], hint)
        self.features = _FEATURES[variant](inputs.channels)
        side, hidden = (3, 1024) if variant == "small" else (6, 4096)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_outputs),
        )
        convolutions = [name for name, layer in self.features.named_children() if isinstance(layer, nn.Conv2d)]
        self.stages: dict[str, tuple[str, ...]] = {
            f"conv{number}": (f"features.{name}",) for number, name in enumerate(convolutions, 1)
        }
        self.stages |= {"fc6": ("avgpool", "classifier.1"), "fc7": ("classifier.4",), "head": ("classifier.6",)}
        if variant == "paper":
            self.paper_init()
        elif variant == "small":
            initialise(self, "kaiming")
            nn.init.normal_(self.classifier[6].weight, std=0.01)  # type: ignore[arg-type]  # small logits at first

    def paper_init(self) -> None:
        """Section 5: weights normal with deviation 0.01; biases 1 where a ReLU should start alive, else 0."""
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for number, layer in enumerate(layers, 1):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 1.0 if number in (2, 4, 5, 6, 7) else 0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W), normalised -> logits (N, num_outputs)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


class LocalResponseNorm(nn.LocalResponseNorm):
    """Section 3.3, with its constants: each value divided by (2 + 1e-4 sum of five squares)^0.75."""

    def __init__(self) -> None:
        super().__init__(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)  # PyTorch divides alpha by 5, the paper does not

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape, computed in float32: squares overflow float16 above 255."""
        return super().forward(x.float()).to(x.dtype)


def _paper_features(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 96, 11, stride=4, padding=2),  # conv1: 96 x 55 x 55
        nn.ReLU(inplace=True),
        LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 96 x 27 x 27
        nn.Conv2d(96, 256, 5, padding=2, groups=2),  # conv2: 256 x 27 x 27
        nn.ReLU(inplace=True),
        LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 256 x 13 x 13
        nn.Conv2d(256, 384, 3, padding=1),  # conv3: 384 x 13 x 13
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),  # conv4
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),  # conv5: 256 x 13 x 13
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 256 x 6 x 6
    )


def _torchvision_features(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),  # conv1: 64 x 55 x 55
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 64 x 27 x 27
        nn.Conv2d(64, 192, 5, padding=2),  # conv2: 192 x 27 x 27
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 192 x 13 x 13
        nn.Conv2d(192, 384, 3, padding=1),  # conv3: 384 x 13 x 13
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),  # conv4: 256 x 13 x 13
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),  # conv5
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 256 x 6 x 6
    )


def _small_features(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, 3, padding=1),  # conv1: 64 x 32 x 32
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 64 x 15 x 15
        nn.Conv2d(64, 192, 3, padding=1),  # conv2: 192 x 15 x 15
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 192 x 7 x 7
        nn.Conv2d(192, 384, 3, padding=1),  # conv3: 384 x 7 x 7
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),  # conv4: 256 x 7 x 7
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),  # conv5
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 256 x 3 x 3
    )


_FEATURES = {"paper": _paper_features, "torchvision": _torchvision_features, "small": _small_features}
