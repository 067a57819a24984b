"""LeNet-5 as it was in 1998: 60,000 trainable parameters on 1x32x32 with 10 classes.

LeCun, Bottou, Bengio, Haffner: "Gradient-based learning applied to document recognition", Proceedings of the IEEE
86(11), 1998, section II.B, figure 2, table I and appendix A.

Layer by layer: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164; the class codes of the output are fixed.
"""

import math
from collections.abc import Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.models.initialise import uniform_by_fan_in
from cnntrain.models.options import check_images
from cnntrain.runtime.seeds import generator

SMALLEST_INPUT = 16  # px, without padding

# Table I: which maps of S2 (rows) each of the 16 maps of C3 (columns) is connected to.
_CONNECTIONS = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""

# 7x12 pictures of the digits, after figure 3: the paper draws its codes but does not print them.
_DIGITS = """
.#####. ...#... .#####. .#####. .....#. ####### .#####. ####### .#####. .#####.
#.....# ..##... #.....# #.....# ....##. #...... #.....# ......# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... ......# #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. .....#. .#...#. #####.. #.####. .....#. .#...#. #.....#
#.....# ...#... ....#.. ...##.. #....#. .....#. ##....# ....#.. ..###.. #....##
#.....# ...#... ...#... .....#. #....#. ......# #.....# ....#.. .#...#. .####.#
#.....# ...#... ..#.... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... #...... ......# .....#. #.....# #.....# ..#.... #.....# ......#
#.....# ...#... #...... #.....# .....#. #.....# #.....# ..#.... #.....# #.....#
.#####. .#####. ####### .#####. .....#. .#####. .#####. ..#.... .#####. .#####.
"""


class LeNet5Original(nn.Module):
    """Trainable subsampling, the sparse third layer, scaled tanh, and an output of distances to class codes.

    The logits are minus the squared Euclidean distances. With softmax and cross-entropy over them, the loss is the
    paper's equation 9 without its constant for rubbish classes.

    Deviations from the paper: colour images are accepted (C1 then has more weights); images of other sizes than
    32x32 are too, C5 then spans whatever S4 gives; with other than ten classes the codes are random, +1 and -1, which
    the paper mentions as the other choice.

    Args:
        inputs: Images; without padding at least 16 px.
        num_outputs: Size of the output.
        padding: Zero padding of the first convolution, px; 2 turns 28x28 into the paper's 32x32.

    Raises:
        ConfigError: The image is too small for two convolutions and two poolings.
    """

    stages = {  # noqa: RUF012 (constant)
        "C1": ("c1",),
        "S2": ("s2",),
        "C3": ("c3",),
        "S4": ("s4",),
        "C5": ("c5",),
        "F6": ("f6",),
        "head": ("output",),
    }

    def __init__(self, inputs: Inputs, num_outputs: int, *, padding: int) -> None:
        super().__init__()
        sides = sides_of_s4(inputs, padding)
        self.c1 = nn.Conv2d(inputs.channels, 6, kernel_size=5, padding=padding)
        self.s2 = Subsampling(6)
        self.c3 = SparseConv2d(_connection_table(), kernel_size=5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=sides)
        self.f6 = nn.Linear(120, 84)
        self.output = ClassCodes(class_codes(num_outputs))
        self.squash = ScaledTanh()
        self.paper_init()

    def paper_init(self) -> None:
        """Appendix A: weights uniform in plus or minus 2.4 / fan-in of the unit."""
        uniform_by_fan_in(self)
        for module in self.modules():
            if isinstance(module, Subsampling | SparseConv2d):
                module.paper_init()

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, H, W), normalised -> minus the distances (N, num_outputs). Shapes at 32 px."""
        x = self.squash(self.c1(images))  # 6 x 28 x 28
        x = self.squash(self.s2(x))  # 6 x 14 x 14
        x = self.squash(self.c3(x))  # 16 x 10 x 10
        x = self.squash(self.s4(x))  # 16 x 5 x 5
        x = self.squash(self.c5(x)).flatten(1)  # 120
        x = self.squash(self.f6(x))  # 84
        logits: Tensor = self.output(x)
        return logits


def sides_of_s4(inputs: Inputs, padding: int) -> tuple[int, int]:
    """Height and width of the maps that leave the second subsampling, px.

    Args:
        inputs: Images.
        padding: Of the first convolution, px.

    Raises:
        ConfigError: They are too small for two convolutions and two poolings, or no images.
    """
    check_images(f"LeNet-5 with padding {padding}", inputs, SMALLEST_INPUT - 2 * padding)
    height, width = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in inputs.size)  # 32 -> 28 -> 14 -> 10 -> 5
    return height, width


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x / 3), so that f(1) = 1 and f(-1) = -1 (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of each 2x2 window, times a trainable coefficient per map, plus a trainable bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def paper_init(self) -> None:
        """As a unit with four inputs."""
        nn.init.uniform_(self.weight, -2.4 / 4, 2.4 / 4)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        sums = 4 * F.avg_pool2d(x, 2)
        return sums * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class SparseConv2d(nn.Module):
    """A convolution in which a map sees some of the maps before it.

    Args:
        table: For each map that leaves, which of those that arrive it sees.
        kernel_size: Side of the kernels.
    """

    def __init__(self, table: Sequence[Sequence[bool]], kernel_size: int) -> None:
        super().__init__()
        self.dense_shape = (len(table), len(table[0]), kernel_size, kernel_size)
        places = [place for place, sees in enumerate(chain(*table)) if sees]
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.places: Tensor
        # Plain numbers, because on the meta device a tensor has no values to ask for.
        self.maps_seen = [sum(row) for row in table for sees in row if sees]
        self.weight = nn.Parameter(torch.empty(len(self.maps_seen), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))

    def paper_init(self) -> None:
        """Uniform in plus or minus 2.4 / fan-in, which differs from map to map."""
        bounds = 2.4 / (torch.tensor(self.maps_seen, device=self.weight.device) * self.weight[0].numel())
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bounds.view(-1, 1, 1))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H - k + 1, W - k + 1)."""
        # One dense convolution with zeros in between is faster than sixteen small ones.
        dense = self.weight.new_zeros(self.dense_shape).flatten(0, 1).index_copy(0, self.places, self.weight)
        return F.conv2d(x, dense.view(self.dense_shape), self.bias)

    def multiply_adds(self, output: Tensor) -> int:
        """For one example, as a dense convolution, which is what is executed."""
        return output[0, 0].numel() * math.prod(self.dense_shape)


class ClassCodes(nn.Module):
    """Minus the squared Euclidean distance to the code of each class: the paper's radial basis functions.

    Args:
        codes: float32 (num_classes, F), fixed.
    """

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.codes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, num_classes)."""
        return -(x.float()[:, None, :] - self.codes).square().sum(2)

    def multiply_adds(self, output: Tensor) -> int:
        """For one example."""
        return self.codes.numel()


def class_codes(num_classes: int) -> Tensor:
    """+1 and -1, float32 (num_classes, 84): pictures of the digits for ten classes, else random but always the same."""
    if num_classes == 10:
        rows = [line.split() for line in _DIGITS.split("\n") if line]
        pictures = ["".join(row[digit] for row in rows) for digit in range(10)]
        return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in picture] for picture in pictures])
    signs = generator("class codes", num_classes).choice([-1.0, 1.0], size=(num_classes, 7 * 12))
    return torch.tensor(signs, dtype=torch.float32)


def _connection_table() -> list[list[bool]]:
    """For each map of C3, which maps of S2 it sees."""
    return [[mark == "X" for mark in column] for column in zip(*_CONNECTIONS.split(), strict=True)]
