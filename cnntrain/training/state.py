"""All that changes while a network learns."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn, optim

from cnntrain.errors import CheckpointError
from cnntrain.training.averaging import WeightAverage
from cnntrain.training.early_stopping import MetricWatch
from cnntrain.training.exchange import Adding, Exchange
from cnntrain.training.optimizers import begin_momentum, load_optimizer
from cnntrain.training.schedules import Scheduler
from cnntrain.training.sums import EpochSums


@dataclass
class TrainingState:
    """A network in training, between two steps. It alone changes itself; others read.

    Attributes:
        network: On its device.
        forward: The same network as it is called in training, compiled if that was asked for.
        optimizer: Moves all parameters of the network.
        scheduler: Gives the optimizer its learning rate, a function of `step` and of what validation showed.
        stopping: Remembers which epoch was best, and knows when to give up.
        scaler: Scales the loss where gradients are float16; elsewhere it does nothing.
        average: The average of the weights, if one is kept.
        exchange: Makes of the gradients of parts those of the whole batch.
        step: Steps taken or left out so far.
        epochs_done: Epochs trained and judged so far.
        sums: What has added up in the epoch in progress.
        last_learning_rate: The rate of the step before; the head's, where stages have different ones.
        scaler_skips: Updates that the scaler left out, as it does now and then in float16.
        nonfinite_steps: Steps left out because their loss or gradients were not finite.
        nonfinite_in_a_row: How many of these came just before.
        left_out: Steps to leave out when training comes by them again.
        rollbacks: How often training went back to an earlier state.
    """

    network: nn.Module
    forward: Callable[[Tensor], Any]
    optimizer: optim.Optimizer
    scheduler: Scheduler
    stopping: MetricWatch
    scaler: torch.amp.GradScaler
    average: WeightAverage | None = None
    exchange: Exchange = field(default_factory=Adding)
    step: int = 0
    epochs_done: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    last_learning_rate: float = 0.0
    scaler_skips: int = 0
    nonfinite_steps: int = 0
    nonfinite_in_a_row: int = 0
    left_out: list[int] = field(default_factory=list)
    rollbacks: int = 0

    def __post_init__(self) -> None:
        self._scale = self.scaler.get_scale()

    @property
    def epoch(self) -> int:
        """The number of the epoch in progress, from 1."""
        return self.epochs_done + 1

    def position(self, steps_per_epoch: int) -> int:
        """How many steps of the epoch in progress are taken or left out."""
        return self.step - self.epochs_done * steps_per_epoch

    @property
    def kept(self) -> nn.Module:
        """What is validated, tested and kept: the averaged network where there is one."""
        return self.average.network if self.average else self.network

    @property
    def learning_rate(self) -> float:
        """The rate of the next step; the head's, where stages have different ones."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def is_over(self, epochs: int) -> bool:
        """Whether training ends here: so many epochs are done, or early stopping gives up."""
        return self.epochs_done >= epochs or self.stopping.gives_up

    def update(self) -> None:
        """Moves the weights along their gradients, then the average; on to the next step."""
        if self.scaler.is_enabled():
            begin_momentum(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        scale, self._scale = self._scale, self.scaler.get_scale()
        self.scaler_skips += self._scale < scale
        self.advance()
        if self.average:
            self.average.update(self.network, self.step)

    def count(self, loss_sum: Tensor, total_weight: Tensor | int, num_correct: Tensor, num_images: int) -> None:
        """Adds a step that was taken to the sums of its epoch."""
        self.nonfinite_in_a_row = 0
        self.sums.add(loss_sum, total_weight, num_correct, num_images)

    def leave_out(self) -> None:
        """Leaves the step out that was computed, because it is not finite; on to the next one."""
        self.nonfinite_steps += 1
        self.nonfinite_in_a_row += 1
        self.scaler.update()
        self.advance()

    def advance(self) -> None:
        """On to the next step, with its learning rate and without gradients."""
        self.last_learning_rate = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.scheduler.set_rates(self.step)

    def judge(self, val: Mapping[str, Any]) -> bool:
        """Ends the epoch; whether it is the best so far.

        Args:
            val: Its validation metrics; empty where nothing is validated.
        """
        self.scheduler.see_validation(self.epoch, self.step, val)
        improved = self.stopping.update(self.epoch, val)
        self.epochs_done, self.sums = self.epoch, EpochSums()
        return improved

    def go_back(self, earlier: Mapping[str, Any], without: int) -> None:
        """Back to an earlier state, to go on from there with half the learning rate and without one step."""
        rollbacks, left_out = self.rollbacks + 1, [*self.left_out, without]
        nonfinite_steps = self.nonfinite_steps + 1
        self.scaler.update()  # ends the step that was not taken, which loading does not
        self.load_state_dict(earlier)
        self.scheduler.reduce(0.5 ** (rollbacks - self.rollbacks), self.step)
        self.rollbacks, self.left_out, self.nonfinite_steps = rollbacks, left_out, nonfinite_steps

    def restart_epoch(self, steps_per_epoch: int) -> None:
        """Begins the epoch in progress anew, where epochs have another number of steps than before."""
        self.sums, self.left_out = EpochSums(), []
        self.go_to_epoch(self.epoch, steps_per_epoch)

    def go_to_epoch(self, epoch: int, steps_per_epoch: int) -> None:
        """To the beginning of an epoch (from 1), with the weights as they are."""
        self.epochs_done, self.step = epoch - 1, (epoch - 1) * steps_per_epoch
        self.scheduler.set_rates(self.step)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which training can go on, laid out as a training checkpoint has them."""
        return {
            "step": self.step,
            "model": self.network.state_dict(),
            "kept": self.kept.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "scheduler": {"next_step": self.step, **self.scheduler.state_dict()},
            "stopping": self.stopping.state_dict(),
            "scaler": self.scaler.state_dict(),
            "scaler_skips": self.scaler_skips,
            "last_learning_rate": self.last_learning_rate,
            "progress": {
                "epoch": self.epoch,
                "sums": asdict(self.sums),
                **{key: getattr(self, key) for key in _COUNTS},
                "left_out": list(self.left_out),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken; what the recipe says otherwise since then stays as it says now.

        Raises:
            CheckpointError: The network is another one.
            ValueError: The optimizer's state is that of another network, or not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)  # of a step that was not taken
        try:
            self.network.load_state_dict(state["model"])
            if self.average:
                self.average.network.load_state_dict(state["kept"])
        except RuntimeError as error:
            raise CheckpointError("the checkpoint is of another network than the configuration's") from error
        load_optimizer(self.optimizer, state["optimizer_name"], state["optimizer"])
        self.step = state["step"]
        self.scheduler.load_state_dict(state["scheduler"], self.step)
        self.stopping.load_state_dict(state["stopping"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
            self._scale = self.scaler.get_scale()
        self.scaler_skips, self.last_learning_rate = state["scaler_skips"], state["last_learning_rate"]
        progress = state["progress"]
        self.epochs_done, self.left_out = progress["epoch"] - 1, list(progress["left_out"])
        self.nonfinite_steps, self.nonfinite_in_a_row, self.rollbacks = (progress[key] for key in _COUNTS)
        sums: dict[str, Any] = {
            k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in progress["sums"].items()
        }
        self.sums = EpochSums(**sums)


_COUNTS = ("nonfinite_steps", "nonfinite_in_a_row", "rollbacks")
