"""The network as it is handed on: from uint8 pixels to probabilities and the like, preprocessing included."""

import copy

import torch
from torch import Tensor, nn

from cnntrain.data.images.tensors import centre_crop
from cnntrain.models.googlenet import GoogLeNet
from cnntrain.trained import Trained


class Deployable(nn.Module):
    """Crops, normalises, asks the network, and turns its outputs into what the task exports, such as probabilities.

    It is written apart from `Preprocessing.network_input`, which works in place, on rows of pixels channels last in
    memory: what compilers of graphs know least. `agreement.py` compares the two.

    Args:
        trained: A copy of its network is taken, on the CPU, in evaluation mode.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained.network).cpu().to(memory_format=torch.contiguous_format)
        if isinstance(self.network, GoogLeNet):
            self.network.aux1 = self.network.aux2 = None  # they work in training alone, and weigh as much as the rest
        self.preprocessing, self.task = trained.preprocessing, trained.task
        mean, std = self.preprocessing.mean, self.preprocessing.std
        self.register_buffer("factor", _per_channel([1 / (255 * s) for s in std]))
        self.register_buffer("shift", _per_channel([-m / s for m, s in zip(mean, std, strict=True)]))
        self.factor: Tensor
        self.shift: Tensor
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images uint8 (N, stored_size, stored_size, C) -> what the task exports, each float32 (N, K)."""
        cropped = centre_crop(images.permute(0, 3, 1, 2), self.preprocessing.image_size)
        return self.task.exported(self.network(cropped.float().contiguous() * self.factor + self.shift))

    def example(self) -> Tensor:
        """Input to follow through the network: uint8 (2, stored_size, stored_size, C), black.

        Two images, because one would make torch.export believe that there is always one.
        """
        side = self.preprocessing.stored_size
        return torch.zeros(2, side, side, self.preprocessing.channels, dtype=torch.uint8)


def _per_channel(values: list[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
