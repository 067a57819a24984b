"""LeNet-5, the network that started it: `Lenet5` is what a configuration says of it, `LeNet5` the network.

LeCun, Bottou, Bengio, Haffner: "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11), 1998, figure 2.
"""

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.models.initialise import uniform_by_fan_in
from cnntrain.models.lenet_original import SMALLEST_INPUT, LeNet5Original, sides_of_s4
from cnntrain.models.options import Entry, NetworkOptions

_PAPER = "LeCun et al. 1998, Proc. IEEE"


class Lenet5(NetworkOptions):
    """LeNet-5 (LeCun et al. 1998): 61,706 parameters on 1x32x32 as it is built today, 60,000 as it was."""

    usual: ClassVar = (
        Entry({"name": "lenet5", "variant": "modern"}, image_inputs(1, 32), 10, SMALLEST_INPUT, _PAPER),
        Entry({"name": "lenet5", "variant": "original"}, image_inputs(1, 32), 10, SMALLEST_INPUT, _PAPER),
    )

    name: Literal["lenet5"] = "lenet5"
    variant: Literal["modern", "original"] = Field(
        "modern", description="original: trainable subsampling, sparse C3, scaled tanh, distances to class codes."
    )
    activation: Literal["relu", "tanh"] = "relu"
    pooling: Literal["max", "average"] = "max"
    padding: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="Zero padding of the first convolution, px; 2 gives 28x28 images the 32x32 network."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.variant == "original":
            self._refuse(activation="variant: modern", pooling="variant: modern")
            if self.init not in ("default", "paper"):
                raise ValueError(f"init: variant: original starts as its paper says (got init: {self.init}); remove it")
        return self

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        if self.variant == "original":
            return LeNet5Original(inputs, num_outputs, padding=self.padding)
        options = {"activation": self.activation, "pooling": self.pooling}
        return LeNet5(inputs, num_outputs, padding=self.padding, **options)


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
        inputs: Images; without padding at least 16 px.
        num_outputs: Size of the output.
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

    def __init__(self, inputs: Inputs, num_outputs: int, *, activation: str, pooling: str, padding: int) -> None:
        super().__init__()
        height, width = sides_of_s4(inputs, padding)
        act, pool = _ACTIVATIONS[activation], _POOLINGS[pooling]
        # The textbook activates before it pools. Where the maximum is pooled the order makes no difference, because
        # activations never fall; and then a quarter of the values is left to activate.
        subsample = (lambda: (pool(2), act())) if pooling == "max" else (lambda: (act(), pool(2)))
        self.features = nn.Sequential(
            nn.Conv2d(inputs.channels, 6, kernel_size=5, padding=padding),  # C1: 6 x 28 x 28
            *subsample(),  # S2: 6 x 14 x 14
            nn.Conv2d(6, 16, kernel_size=5),  # C3: 16 x 10 x 10
            *subsample(),  # S4: 16 x 5 x 5
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),  # C5
            act(),
            nn.Linear(120, 84),  # F6
            act(),
            nn.Linear(84, num_outputs),
        )

    def paper_init(self) -> None:
        """Appendix A of the paper: weights uniform in plus or minus 2.4 / fan-in, biases 0."""
        uniform_by_fan_in(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W), normalised -> logits (N, num_outputs)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
