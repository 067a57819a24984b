"""What the loop says of itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cnntrain.data.batches import Batch
from cnntrain.training.step_norms import StepNorms
from cnntrain.training.sums import EpochFigures, EpochSums


@dataclass(frozen=True)
class StepDone:
    """A step was taken, or left out. Tensors are on the device; reading a number makes the host wait for it.

    Attributes:
        step: Steps taken or left out so far, this one included.
        epoch: The epoch that it belongs to, from 1.
        learning_rate: The rate that it was taken with; the head's, where stages have different ones.
        batch: What it was computed on.
        sums: What has added up in the epoch so far; later steps change it.
        updated: Whether the weights were moved.
        reason: Why they were not, in words; empty where they were, or where training went back to leave the step out.
        loss_sum: The batch's summed loss; None where nothing was computed, because training went back.
        total_weight: By which the summed loss is to be divided.
        norms: Of gradients, weights and update, where they were measured.
        num_images: Of the whole batch; on several processes `batch` has a part of them.
    """

    step: int
    epoch: int
    learning_rate: float
    batch: Batch
    sums: EpochSums
    updated: bool = False
    reason: str = ""
    loss_sum: Tensor | None = None
    total_weight: Tensor | int = 0
    norms: StepNorms | None = None
    num_images: int = 0

    @property
    def loss(self) -> float:
        """The batch's mean loss, as it was before the update; the host waits for the device."""
        return math.nan if self.loss_sum is None else float(self.loss_sum / self.total_weight)

    @property
    def is_first(self) -> bool:
        """Whether no step of the whole training moved the weights before; to be asked before the next one."""
        return self.epoch == 1 and self.updated and self.sums.num_images == self.num_images


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained, validated and judged.

    Attributes:
        epoch: The number of the epoch, from 1.
        step: Steps taken or left out so far.
        learning_rate: The rate of its last step; the head's, where stages have different ones.
        train: Loss, accuracy and speed of its training.
        val: Its validation metrics, as `Evaluation.summary` gives them; empty where nothing is validated.
        improved: Whether it is the best so far.
    """

    epoch: int
    step: int
    learning_rate: float
    train: EpochFigures
    val: Mapping[str, Any]
    improved: bool


Event = StepDone | EpochDone
