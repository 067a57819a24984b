"""How far a training has come; with the learner's state, all that is needed to go on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochFigures:
    """An epoch of training; loss and accuracy are those seen while the weights changed.

    Attributes:
        num_images: Images trained on.
        seconds: Spent in training steps and on their data.
        data_seconds: Of these, spent waiting for the next batch.
    """

    loss: float
    accuracy: float
    num_images: int
    seconds: float
    data_seconds: float

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
    """What adds up during an epoch; the tensors are scalars on the device that trains."""

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

    def wait(self) -> None:
        """Until the device has computed them."""
        float(self.loss)

    def figures(self) -> EpochFigures:
        """The epoch in numbers; the host waits for the device."""
        if not self.num_images:
            return EpochFigures(math.nan, math.nan, 0, self.seconds, self.data_seconds)
        loss, accuracy = float(self.loss / self.weight), float(self.correct) / self.num_images
        return EpochFigures(loss, accuracy, self.num_images, self.seconds, self.data_seconds)


@dataclass
class Progress:
    """Where a training stands between two steps.

    Attributes:
        epoch: In progress, from 1.
        sums: Of its steps so far.
        val: Validation metrics of the best epoch.
        best: Content of `best.safetensors`, so that every checkpoint can bring it back; empty before there is one.
        seconds: Spent in training, by all processes, when this was saved.
        total_seconds: The same, of all that they spent, from their start on.
        nonfinite_in_a_row: How many steps just before were left out.
        nonfinite_steps: How many steps were left out because their loss or gradients were not finite.
        left_out: Steps that are left out when training goes over them again.
        rollbacks: How often training went back to a checkpoint.
        rollback_steps: The newest checkpoints to which training may go back, at most two, the older first. They are
            those of steps at which every training saves, however often it is stopped on the way.
        changes: What the configuration said anew when training went on, such as `step 8: recipe.optimizer.lr: 1 -> 2`.
    """

    epoch: int = 1
    sums: EpochSums = field(default_factory=EpochSums)
    val: dict[str, Any] = field(default_factory=dict)
    best: bytes = b""
    seconds: float = 0.0
    total_seconds: float = 0.0
    nonfinite_in_a_row: int = 0
    nonfinite_steps: int = 0
    left_out: list[int] = field(default_factory=list)
    rollbacks: int = 0
    rollback_steps: list[int] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def next_epoch(self) -> None:
        """To be called when the epoch is trained, validated and judged."""
        self.epoch, self.sums = self.epoch + 1, EpochSums()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        best = torch.from_numpy(np.frombuffer(self.best, dtype=np.uint8).copy())
        return {**vars(self), "sums": asdict(self.sums), "best": best}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Goes back to where `state_dict` was taken; sums go to the device that trains."""
        sums: dict[str, Any] = {
            key: value.to(device) if isinstance(value, Tensor) else value for key, value in state["sums"].items()
        }
        vars(self).update({**state, "sums": EpochSums(**sums), "best": state["best"].numpy().tobytes()})
