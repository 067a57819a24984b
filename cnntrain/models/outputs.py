"""What a network returns while it is trained, where that is more than logits."""

from typing import NamedTuple

from torch import Tensor


class WithAuxiliary(NamedTuple):
    """Logits, and those of auxiliary classifiers, each (N, num_classes), from the input towards the output.

    The loss is that of `logits` plus `weight` times that of each auxiliary classifier. Networks return this in
    training mode alone; in evaluation mode they return the logits.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
