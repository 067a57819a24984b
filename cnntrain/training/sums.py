"""What adds up during an epoch of training, and the figures that it comes to."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Item = TypeVar("Item")


@dataclass(frozen=True)
class EpochFigures:
    """An epoch of training; loss and accuracy are those seen while the weights changed.

    Attributes:
        num_images: Images trained on; where every step was left out there are none, and loss and accuracy are NaN.
        seconds: Spent in training steps and on their data.
        data_seconds: Of these, spent waiting for the next batch.
    """

    loss: float
    accuracy: float
    num_images: int
    seconds: float
    data_seconds: float

    def metrics(self, score: str) -> dict[str, float]:
        """The loss and the mean score, which the task calls `score`."""
        return {"loss": self.loss, score: self.accuracy}

    @property
    def images_per_second(self) -> float:
        """Training steps alone."""
        return self.num_images / self.seconds

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data, in [0, 1]."""
        return self.data_seconds / self.seconds


@dataclass
class EpochSums:
    """Sums over the steps of an epoch; the tensors are scalars on the device that trains."""

    loss: Tensor | float = 0.0
    weight: Tensor | float = 0
    correct: Tensor | float = 0.0
    num_images: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0

    def add(self, loss_sum: Tensor, weight: Tensor | float, num_correct: Tensor, num_images: int) -> None:
        """Takes in a step."""
        self.loss = self.loss + loss_sum
        self.weight = self.weight + weight
        self.correct = self.correct + num_correct
        self.num_images += num_images

    def add_seconds(self, seconds: float) -> None:
        """Takes in time spent on steps and their data."""
        self.seconds += seconds

    def add_data_seconds(self, seconds: float) -> None:
        """Takes in time spent waiting for a batch."""
        self.data_seconds += seconds

    def figures(self) -> EpochFigures:
        """The epoch in numbers; the host waits for the device."""
        if not self.num_images:
            return EpochFigures(math.nan, math.nan, 0, self.seconds, self.data_seconds)
        loss, accuracy = float(self.loss / self.weight), float(self.correct) / self.num_images
        return EpochFigures(loss, accuracy, self.num_images, self.seconds, self.data_seconds)


def timed(items: Iterable[Item], add_seconds: Callable[[float], None]) -> Iterator[Item]:
    """The items, with the time that it takes to make each told before it is handed on."""
    iterator = iter(items)
    while True:
        mark = time.perf_counter()
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            add_seconds(time.perf_counter() - mark)
        yield item
        del item  # a batch is not kept while the next one is computed on
