"""How the gradients of the portions of a batch become those of the whole, on one process or on several.

Each process has the gradient of the sum of its examples' losses, divided by the weight of the whole batch; so every
example counts alike, whatever the split, and the sum over all processes is the gradient of one.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from cnntrain.tasks.task import Criterion
from cnntrain.training.cutting import Portion

Forward = Callable[[Tensor], Any]


class Exchange(Protocol):
    """What a step asks for around and after its passes."""

    def at(self, portion: Portion) -> None:
        """Before a portion goes forward alone."""

    def around(self, portion: Portion, *, is_last: bool, keys: tuple[int, int]) -> AbstractContextManager[None]:
        """While a portion goes forward and backward.

        Args:
            portion: Which.
            is_last: Whether it is the last of the step on this process.
            keys: Seed and number of the step.
        """

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """The weight of the whole batch.

        Args:
            criterion: Weighs.
            targets: Of each portion of this process.
            num_examples: Of the whole batch.
        """

    def sums(self, *columns: Sequence[Tensor]) -> list[Tensor]:
        """Of each column the sum over all portions of all processes, a scalar.

        Args:
            columns: Scalars of one dtype, of each portion of this process, in their order.
        """

    def finish(self) -> None:
        """After the last portion: gradients and batch norm's buffers become those of the whole batch."""


class Adding:
    """One process: backward passes add up by themselves."""

    def at(self, portion: Portion) -> None:
        """See `Exchange`."""

    def around(self, portion: Portion, *, is_last: bool, keys: tuple[int, int]) -> AbstractContextManager[None]:
        """See `Exchange`."""
        return nullcontext()

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """See `Exchange`."""
        return criterion.total_weight(targets[0] if len(targets) == 1 else torch.cat(list(targets)))

    def sums(self, *columns: Sequence[Tensor]) -> list[Tensor]:
        """See `Exchange`."""
        return [in_order(column) for column in columns]

    def finish(self) -> None:
        """See `Exchange`."""


def in_order(values: Sequence[Tensor] | Tensor) -> Tensor:
    """The sum, added up one after another."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
