"""Runs of one configuration with several seeds: mean and spread, and which configuration is better."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev, variance

from scipy import stats

from cnntrain.runs.run_records import RunRecords
from cnntrain.runs.titles import settings_of
from cnntrain.tasks.intervals import Interval

FEWEST_SEEDS = 3  # of each of two configurations, to tell them apart


@dataclass(frozen=True)
class Spread:
    """Accuracies of runs that differ in their seed alone.

    Attributes:
        accuracies: One for each seed, fractions.
    """

    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the sample; None of a single seed."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> Interval | None:
        """Student's 95 % interval of the mean, within [0, 1]; None where no spread was seen, which proves none."""
        if not self.deviation:
            return None
        num_seeds = len(self.accuracies)
        reach = float(stats.t.ppf(0.975, num_seeds - 1)) * self.deviation / num_seeds**0.5
        return Interval(max(0.0, self.mean - reach), min(1.0, self.mean + reach))


@dataclass(frozen=True)
class SpreadDifference:
    """How much more accurate a second configuration is, by Welch's t test over seeds.

    Attributes:
        interval: 95 %, of this comparison alone.
        p_value: Corrected for the number of comparisons (Holm 1979).
    """

    difference: float
    interval: Interval
    p_value: float

    @property
    def is_clear(self) -> bool:
        """Whether chance hardly explains it."""
        return self.p_value < 0.05


def experiment(records: RunRecords) -> Hashable:
    """The same for runs that differ in their seed alone: in settings and images they are equal."""
    splits = records.results.get("splits", {})
    images = {name: split.get("sha256") for name, split in splits.items()}
    return json.dumps([settings_of(records.config), images], sort_keys=True, default=str)


def differences(first: Spread, others: Sequence[Spread]) -> list[SpreadDifference | None]:
    """Compares each of the others with the first; None where seeds are too few, or show no spread, to tell."""
    raw = [_welch(first, other) if _can_tell(first, other) else None for other in others]
    adjusted = iter(_holm([difference.p_value for difference in raw if difference]))
    return [difference and replace(difference, p_value=next(adjusted)) for difference in raw]


def _can_tell(first: Spread, other: Spread) -> bool:
    enough = min(len(first.accuracies), len(other.accuracies)) >= FEWEST_SEEDS
    return enough and bool(first.deviation and other.deviation)


def _welch(first: Spread, other: Spread) -> SpreadDifference:
    """Without taking the variances for equal. Welch: "The generalization of Student's problem", Biometrika 1947."""
    sizes = [len(spread.accuracies) for spread in (first, other)]
    variances = [variance(spread.accuracies) / size for spread, size in zip((first, other), sizes, strict=True)]
    freedom = sum(variances) ** 2 / sum(share**2 / (size - 1) for share, size in zip(variances, sizes, strict=True))
    difference, error = other.mean - first.mean, sum(variances) ** 0.5
    reach = float(stats.t.ppf(0.975, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return SpreadDifference(difference, Interval(difference - reach, difference + reach), p_value)


def _holm(p_values: Sequence[float]) -> list[float]:
    """Corrected for their number. Holm: "A simple sequentially rejective multiple test procedure", 1979."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
