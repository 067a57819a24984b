"""Which part of a network stays as it is, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Freezing:
    """Frozen stages, perhaps thawing one by one from the head towards the input.

    Attributes:
        stages: The modules of each frozen stage, the input's first.
        unfreeze_epoch: The epoch from which the last of them is trained; None keeps all frozen.
        every_epochs: After how many epochs the next one follows.
    """

    stages: Sequence[Sequence[nn.Module]] = ()
    unfreeze_epoch: int | None = None
    every_epochs: int = 1

    def num_frozen(self, epoch: int) -> int:
        """How many stages, from the input, are frozen in an epoch (from 1)."""
        if self.unfreeze_epoch is None or epoch < self.unfreeze_epoch:
            return len(self.stages)
        thawed = 1 + (epoch - self.unfreeze_epoch) // self.every_epochs
        return max(0, len(self.stages) - thawed)

    def apply(self, epoch: int) -> None:
        """To be called in training mode, at the start of an epoch (from 1).

        The batch norms of frozen stages go to evaluation mode: their running mean and variance stay too.
        """
        for index, stage in enumerate(self.stages):
            frozen = index < self.num_frozen(epoch)
            for module in stage:
                module.requires_grad_(not frozen)
                for part in module.modules():
                    if isinstance(part, nn.BatchNorm2d):
                        part.train(not frozen)
