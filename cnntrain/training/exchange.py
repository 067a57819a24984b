"""How the gradients of the parts of a batch become those of the whole, on one process or on several.

Each process has the gradient of the sum of its examples' losses, divided by the weight of the whole batch; so every
example counts alike, whatever the split, and the sum over all processes is the gradient of one.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from cnntrain.tasks.task import Criterion
from cnntrain.training.cutting import Part

Forward = Callable[[Tensor], Any]


class Exchange(Protocol):
    """What a step asks for around and after its passes."""

    @property
    def scale(self) -> float:
        """By what a loss is multiplied before its backward pass."""

    def at(self, part: Part) -> None:
        """Before a part goes forward alone."""

    def around(self, part: Part, *, is_last: bool, keys: tuple[int, int]) -> AbstractContextManager[None]:
        """While a part goes forward and backward.

        Args:
            part: Which.
            is_last: Whether it is the last of the step on this process.
            keys: Seed and number of the step.
        """

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """The weight of the whole batch.

        Args:
            criterion: Weighs.
            targets: Of each part of this process.
            num_examples: Of the whole batch.
        """

    def sums(self, values: Sequence[Tensor]) -> Tensor:
        """The sum over all parts of all processes.

        Args:
            values: Of each part of this process, of one shape and dtype, in their order.
        """

    def finish(self) -> None:
        """After the last part: gradients and batch norm's buffers become those of the whole batch."""


class Adding:
    """One process: backward passes add up by themselves."""

    scale: float = 1.0

    def at(self, part: Part) -> None:
        """See `Exchange`."""

    def around(self, part: Part, *, is_last: bool, keys: tuple[int, int]) -> AbstractContextManager[None]:
        """See `Exchange`."""
        return nullcontext()

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """See `Exchange`."""
        return criterion.total_weight(targets[0] if len(targets) == 1 else torch.cat(list(targets)))

    def sums(self, values: Sequence[Tensor]) -> Tensor:
        """See `Exchange`."""
        return in_order(values)

    def finish(self) -> None:
        """See `Exchange`."""


def in_order(values: Sequence[Tensor] | Tensor) -> Tensor:
    """The sum, added up one after another."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
