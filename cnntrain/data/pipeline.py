"""From stored examples to what a network learns from: one function on batches, whatever kind of input it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cnntrain.data.inputs import Inputs
from cnntrain.runtime.seeds import generator

Table = npt.NDArray[Any]  # float64, or int64 where the numbers are whole


class Augmentation(Protocol):
    """One random change of a batch, on the device that trains.

    The random numbers are drawn once per epoch, as a table with a row for each position in the epoch's order; a batch
    takes its rows. So the same examples come out whatever the batch size or device.
    """

    def draw(self, rng: np.random.Generator, num_examples: int, /) -> Table:
        """A row of random numbers for each example: (num_examples, k), k fixed."""

    def __call__(self, batch: Tensor, draws: Tensor, /) -> Tensor:
        """Changes a batch (B, C, ...) by its rows, float32 or int64 (B, k)."""


class Mixing(Protocol):
    """A change that mixes each example with its neighbour in the epoch's order, and their targets alike."""

    def draw(self, rng: np.random.Generator, num_examples: int, /) -> Table:
        """As `Augmentation.draw`."""

    def __call__(self, batch: Tensor, targets: Tensor, draws: Tensor, /) -> tuple[Tensor, Tensor]:
        """Mixes whole pairs, which the batch must hold; targets are float32 (B, K)."""


class ItemPreprocessing(Protocol):
    """The one preprocessing of a kind of input, as batches know it: from stored items to what a network takes."""

    @property
    def inputs(self) -> Inputs:
        """What arrives at the network."""

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Of an item as it is stored."""

    def show(self, batch: Tensor) -> Tensor:
        """What the network was given, for people: the inverse of normalising."""

    def laid_out(self, items: Tensor) -> Tensor:
        """Items (B, *item_shape) as augmentations and networks see them: (B, C, *size), of the same dtype."""

    def normalise(self, batch: Tensor) -> Tensor:
        """What was laid out, and perhaps augmented, as the network takes it: float32 (B, C, *size)."""

    def network_input(self, items: Tensor) -> Tensor:
        """Items (B, *item_shape) as the network takes them where nothing is augmented: float32 (B, C, *size)."""

    def resized(self, batch: Tensor, size: int) -> Tensor:
        """A batch as the network takes it, at another size."""

    def augmentation(self, options: Sequence[Any], num_outputs: int) -> "AugmentationPipeline":
        """What a list of augmentations does to stored items."""


@dataclass(frozen=True)
class AugmentationPipeline:
    """What happens to training examples between memory and network.

    Attributes:
        steps: Augmentations in the order given, the crop to the network's size among them.
        mixing: Last, and on the targets too; None where these stay whole.
        preprocessing: Lays out what goes in, and normalises what comes out.
        num_outputs: K.
    """

    steps: tuple[Augmentation, ...]
    mixing: Mixing | None
    preprocessing: ItemPreprocessing
    num_outputs: int

    def draw(self, seed: int, epoch: int, num_examples: int) -> list[Tensor]:
        """The tables of an epoch, float32 or int64 on the CPU: a row for each position in its order."""
        drawers: list[Augmentation | Mixing] = [*self.steps, *([self.mixing] if self.mixing else [])]
        tables = [
            drawer.draw(generator("augment", seed, epoch, index), num_examples) for index, drawer in enumerate(drawers)
        ]
        return [torch.from_numpy(table.astype(np.float32) if table.dtype == np.float64 else table) for table in tables]

    def __call__(self, items: Tensor, targets: Tensor, draws: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Augments and normalises a batch.

        Args:
            items: (B, *item_shape), as stored.
            targets: int64 (B,).
            draws: The batch's rows of each table.

        Returns:
            float32 (B, C, *size), and int64 (B,) or, where targets are mixed, float32 (B, K).
        """
        batch = self.preprocessing.laid_out(items)
        for step, rows in zip(self.steps, draws, strict=False):
            batch = step(batch, rows)
        if self.mixing:
            targets = F.one_hot(targets, self.num_outputs).float()
            batch, targets = self.mixing(batch, targets, draws[-1])
        return self.preprocessing.normalise(batch), targets
