"""A range test: one short training whose rate grows until the loss explodes. It shows, and does not suggest.

Smith: "Cyclical learning rates for training neural networks", WACV 2017, section 3.3; with a rate that grows by the
same factor in each step, and a smoothed loss, as fast.ai has it. Where the curve falls fastest is no good rate by
itself: it is one noisy training, and it knows nothing of warm-up and decay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import numpy.typing as npt

from cnntrain.data.reporter import Reporter
from cnntrain.data.splits import Splits
from cnntrain.errors import NumericalError
from cnntrain.training.loop import begin_epoch, train_step
from cnntrain.training.lr_find.trials import endless_batches, without_stops
from cnntrain.training.schedules import Scheduler
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState

DIVERGED = 4.0  # the loss beside its best, at which there is nothing more to be learnt (fast.ai's choice)
RECENT = 5  # steps whose mean loss is judged by that
# The deviation of the normal distribution by which losses are averaged: this share of the steps, and at least so many.
SMOOTHING, MIN_DEVIATION = 0.03, 1.5
# By how many standard errors the smoothed loss has to fall. Networks that learn reach 9 to 100; of 1,000 curves of
# nothing but noise, one reaches 6.
MIN_FALL = 6.0
MIN_LOSSES = 10
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        falls: Whether the smoothed loss falls by more than it varies.
        steepest: The rate where the smoothed loss falls fastest.
        lowest: The rate where it is lowest; above, it rises.
        ended: Why there were no more steps.
        learning_rates: One for each step, growing; of the head, where stages differ.
        losses: Of each step, before it moved the weights.
        smoothed: The same, averaged over the steps around each.
    """

    falls: bool
    steepest: float
    lowest: float
    ended: str
    learning_rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def explodes(self) -> bool:
        """Whether it ended before a curve could be seen."""
        return len(self.losses) < MIN_LOSSES


def range_test(
    state: TrainingState, splits: Splits, settings: Settings, reporter: Reporter, *, steps: int, low: float, high: float
) -> RangeTest:
    """Takes training steps with a growing learning rate, until the loss explodes.

    Images are as large, and as much is frozen, as in the first epoch; schedule and averaging have no part in it.

    Args:
        state: At its start; it is of no use afterwards.
        splits: What to train on.
        settings: The recipe.
        reporter: Told how far it is.
        steps: At most.
        low: The first rate.
        high: The last one.

    Raises:
        NumericalError: The first loss is infinite or not a number.
    """
    state, settings = with_growing_rate(state, low, high, steps), without_stops(settings)
    begin_epoch(state.network, settings, epoch=1)
    rates: list[float] = []
    losses: list[float] = []
    best, ended = math.inf, f"all {steps} steps are done"
    batches = endless_batches(splits, replace(settings, resizing=None, image_size=settings.training_size(1)))
    for _ in reporter.progress(range(steps), steps, "range test"):
        done = train_step(state, next(batches), settings)
        rate, loss = done.learning_rate, done.loss
        if not (math.isfinite(loss) and done.updated):
            ended = f"the loss or a gradient was no longer finite at {rate:.2g}"
            break
        rates.append(rate)
        losses.append(loss)
        recent = fmean(losses[-RECENT:])
        best = min(best, recent)
        if recent > DIVERGED * best:
            ended = f"the loss was {DIVERGED:g} times its best at {rate:.2g}"
            break
    if not losses:
        raise NumericalError(f"{ended}, in the first step; look at the images, data.mean and data.std, or at --min")
    return judge(rates, losses, ended)


def with_growing_rate(state: TrainingState, low: float, high: float, steps: int) -> TrainingState:
    """The same with a rate that grows from `low` to `high` in place of the schedule; stages keep their rates' ratio."""
    highest = max(state.scheduler.initial_lrs)
    scheduler = Scheduler(
        state.optimizer,
        lambda _, fraction: (high / low) ** fraction,
        steps_per_epoch=1,
        total_steps=steps - 1,
        initial_lrs=[low * initial / highest for initial in state.scheduler.initial_lrs],
    )
    return replace(state, scheduler=scheduler, average=None)


def judge(rates: Sequence[float], losses: Sequence[float], ended: str) -> RangeTest:
    """What a curve says.

    Args:
        rates: Growing.
        losses: As many.
        ended: Why there are no more.
    """
    if len(losses) < MIN_LOSSES:
        return RangeTest(False, rates[0], rates[0], ended, list(rates), list(losses), list(losses))
    values = np.minimum(losses, 2 * losses[0])  # or the last, exploding ones would outweigh their neighbours
    deviation = max(MIN_DEVIATION, SMOOTHING * len(values))
    smoothed = smooth(values, deviation)
    lowest = int(smoothed.argmin())
    steepest = int(np.gradient(smoothed, np.log(rates))[: lowest + 1].argmin())
    fall = float(np.median(smoothed[: max(1, lowest // 2)])) - smoothed[lowest]
    falls = fall >= MIN_FALL * _standard_error(values[: max(MIN_LOSSES, lowest)], deviation)
    return RangeTest(bool(falls), rates[steepest], rates[lowest], ended, list(rates), list(losses), smoothed.tolist())


def _standard_error(values: Numbers, deviation: float) -> float:
    """Of averages by `smooth`, which vary as little as a plain mean of 2 sqrt(pi) deviation values.

    How much the values themselves vary follows from neighbours, whether the values fall or not (von Neumann 1941).
    """
    varies = math.sqrt(np.square(np.diff(values)).mean() / 2)
    return varies / math.sqrt(2 * math.sqrt(math.pi) * deviation)


def smooth(values: Numbers, deviation: float) -> Numbers:
    """float64 (N,), each averaged with those around it by the weights of a normal distribution, so without a lag."""
    places = np.arange(len(values))
    weights = np.exp(-0.5 * ((places[:, None] - places) / deviation) ** 2)
    averaged: Numbers = weights @ values / weights.sum(1)
    return averaged
