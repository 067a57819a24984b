"""Learning-rate schedules: the rate at a step is a function of the step (and, on a plateau, of what was measured)."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, Strict, model_validator
from torch.optim import Optimizer

from cnntrain.config.section import Fraction, ProperFraction, Section
from cnntrain.config.shorthand import Shorthand, choice_of
from cnntrain.tasks.watched import Watched
from cnntrain.training.early_stopping import MetricWatch


class Plateau(NamedTuple):
    """What is watched, and by what the rate is multiplied each time it has not improved for its patience."""

    watch: MetricWatch
    factor: float


class ScheduleOptions(Section):
    """What every schedule has: a linear rise from near zero to the optimizer's rate."""

    name: str
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of all steps")

    def decay(self, epoch: int, fraction: float) -> float:
        """By what the rate is multiplied after the rise.

        Args:
            epoch: From 0.
            fraction: Of the steps after the rise, in [0, 1).
        """
        return 1.0

    def plateau(self) -> Plateau | None:
        """What lowers the rate besides; None where the rate follows from the step alone."""
        return None


class Constant(ScheduleOptions):
    """The optimizer's rate throughout."""

    name: Literal["constant"] = "constant"


class StepDecay(ScheduleOptions):
    """Multiply the rate by `factor` every `every_epochs`."""

    name: Literal["step"] = "step"
    every_epochs: PositiveInt = 10
    factor: ProperFraction = 0.1

    def decay(self, epoch: int, fraction: float) -> float:
        """`factor` to the power of how often it was time."""
        return self.factor ** (epoch // self.every_epochs)


class MultiStep(ScheduleOptions):
    """Multiply the rate by `factor` at each of `milestones`."""

    name: Literal["multi_step"] = "multi_step"
    milestones: Annotated[tuple[PositiveInt, ...], Strict(False), Field(min_length=1)] = Field(description="epochs")
    factor: ProperFraction = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise (got {list(self.milestones)})")
        return self

    def decay(self, epoch: int, fraction: float) -> float:
        """`factor` to the power of the milestones that are passed."""
        return self.factor ** bisect_right(self.milestones, epoch)


class Cosine(ScheduleOptions):
    """Half a cosine from the rate down to `final_fraction` of it (Loshchilov and Hutter 2016)."""

    name: Literal["cosine"] = "cosine"
    final_fraction: Fraction = 0.0

    def decay(self, epoch: int, fraction: float) -> float:
        """From 1 to `final_fraction`."""
        return self.final_fraction + (1 - self.final_fraction) * _half_cosine(fraction)


class OneCycle(ScheduleOptions):
    """Linear up to the rate, then linear (or half a cosine) down to zero (Smith 2018)."""

    name: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="of all steps")
    shape: Literal["linear", "cosine"] = "linear"

    def decay(self, epoch: int, fraction: float) -> float:
        """From 1 to 0."""
        return 1 - fraction if self.shape == "linear" else _half_cosine(fraction)


class ReduceOnPlateau(ScheduleOptions):
    """Multiply the rate by `factor` when the validation metric has not improved for `patience` epochs."""

    name: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    metric: Watched = "loss"
    patience: PositiveInt = 5
    factor: ProperFraction = 0.1
    min_delta: NonNegativeFloat = 0.0

    def plateau(self) -> Plateau | None:
        """The metric and its patience."""
        return Plateau(MetricWatch(self.metric, patience=self.patience, min_delta=self.min_delta), self.factor)


SCHEDULES = (Constant, StepDecay, MultiStep, Cosine, OneCycle, ReduceOnPlateau)
if TYPE_CHECKING:
    Schedule = ScheduleOptions
else:
    Schedule = choice_of(SCHEDULES, Shorthand(default="one_cycle"))


class Scheduler:
    """Sets the optimizer's learning rate: its initial rate x warm-up or decay x what plateaus and rollbacks left of it.

    Args:
        optimizer: Whose groups have their rates set.
        decay: Epoch (from 0) and fraction in [0, 1) of the steps after warm-up -> factor.
        initial_lrs: Of each group; those that it has now where they are not given.
        steps_per_epoch: Steps in an epoch; a fraction where a whole training is shrunk.
        total_steps: Steps in the whole training.
        warmup_steps: Steps of linear rise, `(step + 1) / warmup_steps`.
        plateau: What lowers the rate besides.

    Attributes:
        reduction: What plateaus and rollbacks left of the rate, a factor.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay: Callable[[int, float], float],
        *,
        steps_per_epoch: float,
        total_steps: int,
        warmup_steps: int = 0,
        plateau: Plateau | None = None,
        initial_lrs: Sequence[float] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.decay = decay
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.plateau = plateau
        self.reduction = 1.0
        self.initial_lrs = list(initial_lrs or (float(group["lr"]) for group in optimizer.param_groups))
        self.set_rates(0)

    def factor(self, step: int) -> float:
        """By what the initial learning rate is multiplied at a step (from 0), the plateau's part apart."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        fraction = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.decay(int(step // self.steps_per_epoch), fraction)

    def set_rates(self, step: int) -> None:
        """Gives every group of the optimizer its rate of a step (from 0)."""
        factor = self.factor(step) * self.reduction
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * factor

    def see_validation(self, epoch: int, step: int, val: Mapping[str, Any]) -> None:
        """Lowers the rate, from `step` on, where the metrics of an epoch (from 1) are those of a plateau."""
        if self.plateau is None or step < self.warmup_steps:
            return
        watch, factor = self.plateau
        watch.update(epoch, val)
        if watch.gives_up:
            watch.num_waited = 0
            self.reduce(factor, step)

    def reduce(self, factor: float, step: int) -> None:
        """Multiplies the rate, from `step` on."""
        self.reduction *= factor
        self.set_rates(step)

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which `load_state_dict` goes on."""
        return {"reduction": self.reduction, "plateau": self.plateau.watch.state_dict() if self.plateau else None}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Goes on at `step`, where `state_dict` was taken."""
        self.reduction = state["reduction"]
        if self.plateau and state["plateau"]:
            self.plateau.watch.load_state_dict(state["plateau"])
        self.set_rates(step)


def build_scheduler(
    options: ScheduleOptions,
    optimizer: Optimizer,
    *,
    steps_per_epoch: float,
    total_steps: int,
    initial_lrs: Sequence[float] | None = None,
) -> Scheduler:
    """The schedule that the options describe, for a training of so many steps; arguments as `Scheduler`."""
    return Scheduler(
        optimizer,
        options.decay,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        warmup_steps=round(options.warmup_fraction * total_steps),
        plateau=options.plateau(),
        initial_lrs=initial_lrs,
    )


def _half_cosine(fraction: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * fraction))
