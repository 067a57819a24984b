"""Which part of a network stays as it is, epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from cnntrain.config.section import Section
from cnntrain.models.general import BatchNorm


class Unfreezing(Section):
    """Train the frozen stages after all, one by one, the last one first."""

    epoch: Annotated[int, Field(ge=2)] = Field(2, description="the first epoch that trains one more stage")
    every_epochs: PositiveInt = Field(1, description="after how many epochs the next one follows")


@dataclass(frozen=True)
class Freezing:
    """Frozen stages, perhaps thawing one by one from the head towards the input.

    Attributes:
        stages: By name the modules of each frozen stage, the input's first.
        unfreeze_epoch: The epoch from which the last of them is trained; None keeps all frozen.
        every_epochs: After how many epochs the next one follows.
    """

    stages: Mapping[str, Sequence[nn.Module]] = field(default_factory=dict)
    unfreeze_epoch: int | None = None
    every_epochs: int = 1

    def frozen(self, epoch: int) -> list[str]:
        """The stages that are frozen in an epoch (from 1)."""
        names = list(self.stages)
        if self.unfreeze_epoch is None or epoch < self.unfreeze_epoch:
            return names
        thawed = 1 + (epoch - self.unfreeze_epoch) // self.every_epochs
        return names[: max(0, len(names) - thawed)]

    def apply(self, epoch: int) -> None:
        """To be called in training mode, at the start of an epoch (from 1).

        The batch norms of frozen stages go to evaluation mode: their running mean and variance stay too.
        """
        frozen = self.frozen(epoch)
        for name, stage in self.stages.items():
            for module in stage:
                module.requires_grad_(name not in frozen)
                for part in module.modules():
                    if isinstance(part, BatchNorm):
                        part.train(name not in frozen)

    def describe(self, epoch: int, network: nn.Module) -> str:
        """What is frozen in the first epoch, and what is trained too from a later one; nothing if nothing changes."""
        frozen = self.frozen(epoch)
        if epoch == 1 and frozen:
            sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
            trained, total = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
            return f"{trained:,} of {total:,} parameters are trained; frozen: {', '.join(frozen)}"
        thawed = [name for name in self.frozen(epoch - 1) if name not in frozen] if epoch > 1 else []
        return f"from epoch {epoch} trained too: {', '.join(thawed)}" if thawed else ""
