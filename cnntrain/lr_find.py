"""A range test: with which learning rates a network learns, before it is trained.

Smith: "Cyclical learning rates for training neural networks", WACV 2017, section 3.3; with a rate that grows by the
same factor in each step, and a smoothed loss, as fast.ai has it.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from cnntrain.config import Config
from cnntrain.data import Splits
from cnntrain.data.batches import Batch
from cnntrain.data.pipeline import build_pipeline
from cnntrain.errors import NumericalError
from cnntrain.learner import Learner
from cnntrain.recipe.resizing import training_size
from cnntrain.recipe.schedules import Scheduler
from cnntrain.records.console import Console
from cnntrain.runtime.device import resolve_device
from cnntrain.train import epoch_batches, set_up, train_step

RULE = "where the smoothed loss falls fastest, or a tenth of the rate where it is lowest, whichever is higher"
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
        suggestion: A rate to train with, by `RULE`; None where the curve says nothing.
        nothing: Why it says nothing; empty where there is a suggestion.
        steepest: The rate where the smoothed loss falls fastest.
        lowest: The rate where it is lowest: the upper bound.
        ended: Why there were no more steps.
        learning_rates: One for each step, growing; of the head, where stages differ.
        losses: Of each step, before it moved the weights.
        smoothed: The same, averaged over the steps around each.
    """

    suggestion: float | None
    nothing: str
    steepest: float
    lowest: float
    ended: str
    learning_rates: list[float]
    losses: list[float]
    smoothed: list[float]


def lr_find(config: Config, console: Console, *, steps: int = 100, low: float = 1e-6, high: float = 10.0) -> RangeTest:
    """Takes training steps with a growing learning rate, until the loss explodes. Nothing of it is kept.

    Args:
        config: Any that could be trained; its schedule and its averaging have no part in it.
        console: Where progress goes.
        steps: At most.
        low: The first rate.
        high: The last one.

    Raises:
        CnntrainError: Training could not work.
        NumericalError: The first loss is infinite or not a number.
    """
    config, splits, learner = set_up(config, resolve_device(config.run.device), console)
    grow_rate(learner, low, high, steps)
    rates: list[float] = []
    losses: list[float] = []
    best, ended = math.inf, f"all {steps} steps are done"
    for batch in console.progress(islice(_batches(splits, config, learner), steps), steps, "range test"):
        rate, result = learner.learning_rate, train_step(learner, batch)
        loss = float(result.loss_sum / result.total_weight)
        if not (math.isfinite(loss) and result.updated):
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


def grow_rate(learner: Learner, low: float, high: float, steps: int) -> None:
    """Puts a rate that grows from `low` to `high` in place of the schedule; stages keep their rates' ratio."""
    highest = max(learner.scheduler.initial_lrs)
    for group, initial in zip(learner.optimizer.param_groups, learner.scheduler.initial_lrs, strict=True):
        group["lr"] = low * initial / highest
    learner.scheduler = Scheduler(
        learner.optimizer, lambda _, fraction: (high / low) ** fraction, steps_per_epoch=1, total_steps=steps - 1
    )
    learner.average = None


def _batches(splits: Splits, config: Config, learner: Learner) -> Iterator[Batch]:
    """Those of training, epoch after epoch; the size of images and what is frozen stay as in the first one."""
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    size = training_size(config.recipe, 1, splits.preprocessing.image_size)
    learner.begin_epoch(1)
    for epoch in count(1):
        yield from epoch_batches(splits, config, epoch, pipeline=pipeline, image_size=size)


def judge(rates: Sequence[float], losses: Sequence[float], ended: str) -> RangeTest:
    """What a curve says.

    Args:
        rates: Growing.
        losses: As many.
        ended: Why there are no more.
    """
    if len(losses) < MIN_LOSSES:
        nothing = f"the loss explodes at once ({ended}); begin lower, with --min"
        return RangeTest(None, nothing, rates[0], rates[0], ended, list(rates), list(losses), list(losses))
    values = np.minimum(losses, 2 * losses[0])  # or the last, exploding ones would outweigh their neighbours
    deviation = max(MIN_DEVIATION, SMOOTHING * len(values))
    smoothed = smooth(values, deviation)
    lowest = int(smoothed.argmin())
    steepest = int(np.gradient(smoothed, np.log(rates))[: lowest + 1].argmin())
    fall = float(np.median(smoothed[: max(1, lowest // 2)])) - smoothed[lowest]
    nothing = ""
    if fall < MIN_FALL * _standard_error(values[: max(MIN_LOSSES, lowest)], deviation):
        nothing = (
            "the loss falls nowhere by more than it varies; go higher with --max, take more --steps, or look at the "
            "images and labels (`cnntrain check`)"
        )
    suggestion = None if nothing else max(rates[steepest], rates[lowest] / 10)
    return RangeTest(
        suggestion, nothing, rates[steepest], rates[lowest], ended, list(rates), list(losses), smoothed.tolist()
    )


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


def picture(found: RangeTest, kind: str, *, configured: float, title: str) -> bytes:
    """The curve, with the suggestion marked. Needs the extra `report`.

    Args:
        found: What to draw.
        kind: `png`, `svg` or `pdf`.
        configured: The configuration's own rate, which is marked too.
        title: Of the file; it is not drawn.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.learning_rates, found.losses, color="#b9c4d0", linewidth=1, label="loss of a step")
    axes.plot(found.learning_rates, found.smoothed, color="#3b82d6", linewidth=2, label="smoothed")
    marks = [(found.suggestion, "#e0772b", "-", "suggestion"), (configured, "#8c8c8c", ":", "configuration")]
    for rate, colour, style, name in marks:
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle=style, linewidth=1.5, label=f"{name} {rate:.2g}")
    bottom, start = min([*found.losses, *found.smoothed]), found.losses[0]
    axes.set_ylim(bottom - 0.1 * start, 1.5 * start)  # how high it explodes does not matter
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title="Learning-rate range test")
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    dates: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": title}):  # the same curve is the same file
        figure.savefig(buffer, format=kind, dpi=150, metadata={**dates[kind], "Title": title})
    return buffer.getvalue()
