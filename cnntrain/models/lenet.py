"""LeNet-5, the network that started it.

LeCun, Bottou, Bengio, Haffner: "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11), 1998, figure 2.
"""

import torch
from torch import Tensor, nn

from cnntrain.models.checks import check_image_size
from cnntrain.models.initialise import uniform_by_fan_in


class MaxPool2d(nn.MaxPool2d):
    """Takes the maximum of bfloat16 in float32 on a CPU, whose bfloat16 kernel is slow where channels are few.

    It converts value by value there; all at once beforehand saves a tenth of LeNet-5's step. The maximum is the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / size, W / size), at least float32 on a CPU."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32)) if x.device.type == "cpu" else x
        pooled: Tensor = super().forward(wide)
        return pooled


_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
_POOLINGS = {"max": MaxPool2d, "average": nn.AvgPool2d}


class LeNet5(nn.Module):
    """LeNet-5 as it is built today: 61,706 parameters on 1x32x32 with 10 classes.

    Deviations from the paper: every map of C3 sees all six maps of S2; the pooling has no
    trainable coefficients; the output layer is linear and its softmax belongs to the loss.
    `lenet_original.py` has the network without these.

    Args:
        in_channels: 1 for grey, 3 for colour images.
        num_classes: Size of the output.
        image_size: Side of the square input, px; at least 16 without padding.
        activation: `relu` or `tanh` (the paper's, there scaled).
        pooling: `max` or `average` (the paper's).
        padding: Zero padding of the first convolution, px; 2 turns 28x28 into the paper's 32x32.

    Raises:
        ConfigError: The image is too small for two convolutions and two poolings.
    """

    stages = {  # noqa: RUF012 (constant)
        "C1": ("features.0",),
        "C3": ("features.3",),
        "C5": ("classifier.1",),
        "F6": ("classifier.3",),
        "head": ("classifier.5",),
    }

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        *,
        activation: str = "relu",
        pooling: str = "max",
        padding: int = 0,
    ) -> None:
        super().__init__()
        check_image_size(f"LeNet-5 with padding {padding}", image_size, 16 - 2 * padding)
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2  # 32 -> 28 -> 14 -> 10 -> 5
        act, pool = _ACTIVATIONS[activation], _POOLINGS[pooling]
        # The textbook activates before it pools. Where the maximum is pooled the order makes no difference, because
        # activations never fall; and then a quarter of the values is left to activate.
        subsample = (lambda: (pool(2), act())) if pooling == "max" else (lambda: (act(), pool(2)))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5, padding=padding),  # C1: 6 x 28 x 28
            *subsample(),  # S2: 6 x 14 x 14
            nn.Conv2d(6, 16, kernel_size=5),  # C3: 16 x 10 x 10
            *subsample(),  # S4: 16 x 5 x 5
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * side * side, 120),  # C5
            act(),
            nn.Linear(120, 84),  # F6
            act(),
            nn.Linear(84, num_classes),
        )

    def paper_init(self) -> None:
        """Appendix A of the paper: weights uniform in plus or minus 2.4 / fan-in, biases 0."""
        uniform_by_fan_in(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, S, S), normalised -> logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
