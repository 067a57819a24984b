"""Learning-rate schedules: the rate at a step is a function of the step (and, on a plateau, of what was measured)."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from cnntrain.config import schema
from cnntrain.recipe.early_stopping import EarlyStopping


class Scheduler:
    """Sets the optimizer's learning rate: its initial rate x warm-up or decay x what plateaus and rollbacks left of it.

    Args:
        optimizer: Its groups' rates at this moment are the initial ones.
        decay: Epoch (from 0) and fraction in [0, 1) of the steps after warm-up -> factor.
        steps_per_epoch: Steps in an epoch; a fraction where a whole training is shrunk.
        total_steps: Steps in the whole training.
        warmup_steps: Steps of linear rise, `(step + 1) / warmup_steps`.
        plateau: What is watched, and the factor applied each time it has not improved for its patience.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay: Callable[[int, float], float],
        *,
        steps_per_epoch: float,
        total_steps: int,
        warmup_steps: int = 0,
        plateau: tuple[EarlyStopping, float] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.decay = decay
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.plateau = plateau
        self.reduction = 1.0
        self.next_step = 0
        self.initial_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self._apply()

    def factor(self, step: int) -> float:
        """By what the initial learning rate is multiplied at a step, the plateau's part apart."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        fraction = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.decay(int(step // self.steps_per_epoch), fraction)

    def step(self) -> None:
        """To be called after each optimizer step: sets the rate of the next one."""
        self.next_step += 1
        self._apply()

    def epoch_end(self, epoch: int, val: Mapping[str, Any]) -> None:
        """To be called with the validation metrics of an epoch."""
        if self.plateau is None or self.next_step < self.warmup_steps:
            return
        watch, factor = self.plateau
        if watch.update(epoch, val).stop:
            watch.num_waited = 0
            self.reduce(factor)

    def reduce(self, factor: float) -> None:
        """Multiplies the rate, from the next step on."""
        self.reduction *= factor
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which `load_state_dict` goes on."""
        watch = self.plateau[0].state_dict() if self.plateau else None
        return {"next_step": self.next_step, "reduction": self.reduction, "plateau": watch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.reduction = state["reduction"]
        if self.plateau and state["plateau"]:
            self.plateau[0].load_state_dict(state["plateau"])
        self.go_to(state["next_step"])

    def go_to(self, step: int) -> None:
        """Sets the rate of a step."""
        self.next_step = step
        self._apply()

    def _apply(self) -> None:
        factor = self.factor(self.next_step) * self.reduction
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * factor


def build_scheduler(
    config: schema.Schedule, optimizer: Optimizer, *, steps_per_epoch: float, total_steps: int
) -> Scheduler:
    """The schedule that a configuration names, in steps."""
    plateau = None
    decay: Callable[[int, float], float]
    match config:
        case schema.Constant():
            decay = _constant
        case schema.StepDecay(every_epochs=every, factor=factor):
            decay = lambda epoch, _: factor ** (epoch // every)  # noqa: E731
        case schema.MultiStep(milestones=milestones, factor=factor):
            decay = lambda epoch, _: factor ** bisect_right(milestones, epoch)  # noqa: E731
        case schema.Cosine(final_fraction=final):
            decay = lambda _, fraction: final + (1 - final) * _half_cosine(fraction)  # noqa: E731
        case schema.OneCycle(shape=shape):
            decay = (lambda _, fraction: 1 - fraction) if shape == "linear" else (lambda _, f: _half_cosine(f))
        case schema.ReduceOnPlateau():
            decay = _constant
            watch = EarlyStopping(config.metric, patience=config.patience, min_delta=config.min_delta)
            plateau = (watch, config.factor)
    return Scheduler(
        optimizer,
        decay,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        warmup_steps=round(config.warmup_fraction * total_steps),
        plateau=plateau,
    )


def _constant(_epoch: int, _fraction: float) -> float:
    return 1.0


def _half_cosine(fraction: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * fraction))
