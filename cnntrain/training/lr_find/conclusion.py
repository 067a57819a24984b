"""What trials say of a learning rate, and how sure that is."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from cnntrain.training.lr_find.ladder import FACTOR
from cnntrain.training.lr_find.trials import Trial, beats_guessing

# A rate counts for the suggestion the more the closer it came to the best; none of this share of what the best learnt
# beyond guessing.
NEARLY = 0.2
MAX_NOISE = 0.05  # of accuracy: where chance alone makes more, nothing is suggested
SURE = 2.0  # standard errors
NO_BETTER = "in trials, no rate learns more than guessing; raise --budget, or see cnntrain check"
TOO_FEW = "too few rates could be tried; raise --budget, or widen --min and --max"


@dataclass(frozen=True)
class Conclusion:
    """What trials say.

    Attributes:
        suggestion: A rate to train with; None where the trials do not tell.
        nothing: Why there is none; empty where there is one.
        best: The rate whose trials ended best; None without trials.
        as_good_from: The lowest rate that chance may have put behind the best; None without trials.
        as_good_to: The highest one.
        noise: Differences of accuracy below this, a fraction, may be chance; None without trials.
        configured_is_as_good: Whether the configuration's rate is one of these; None where it was not tried so long.
        explodes_from: The lowest rate above the best that came to little with any seed; None where none was met.
        agreeing: How many seeds have their best rate within a factor of 3 of the best one.
        seeds: How many seeds there were.
    """

    suggestion: float | None
    nothing: str
    best: float | None = None
    as_good_from: float | None = None
    as_good_to: float | None = None
    noise: float | None = None
    configured_is_as_good: bool | None = None
    explodes_from: float | None = None
    agreeing: int = 0
    seeds: int = 0


def decide(trials: Sequence[Trial], tried: Sequence[Trial], own: float, guess: float) -> Conclusion:
    """Looks at trials of one length.

    Args:
        trials: With every seed the same rates; may be empty.
        tried: All; of those of that length some may have exploded.
        own: The configuration's rate.
        guess: The accuracy of always naming the most frequent class.
    """
    if not trials:
        return Conclusion(None, TOO_FEW)
    by_rate: dict[float, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_rate[trial.learning_rate].append(trial)
    accuracy = {rate: fmean(trial.accuracy for trial in some) for rate, some in by_rate.items()}
    best = max(accuracy, key=lambda rate: (accuracy[rate], -_mean_loss(by_rate[rate])))
    behind = {rate: accuracy[best] - reached for rate, reached in accuracy.items()}
    errors = {rate: standard_error(some, by_rate[best]) for rate, some in by_rate.items() if rate != best}
    neighbours = [rate for rate in errors if abs(math.log(rate / best, FACTOR)) < 0.75]
    # Of the neighbour that is most like it; where there is none, all others were far behind.
    noise = SURE * min((errors[rate] for rate in neighbours), default=0.0)
    as_good = [rate for rate in accuracy if rate == best or behind[rate] <= SURE * errors[rate]]
    agreeing, seeds = _agreement(trials, best)
    conclusion = Conclusion(
        None,
        "",
        best=best,
        as_good_from=min(as_good),
        as_good_to=max(as_good),
        noise=noise,
        configured_is_as_good=own in as_good if own in accuracy else None,
        agreeing=agreeing,
        seeds=seeds,
    )
    num_judged = sum(trial.num_held_out for trial in by_rate[best])
    if not beats_guessing(accuracy[best], guess, num_judged):
        return replace(conclusion, nothing=NO_BETTER)
    if noise > MAX_NOISE:
        told = f"{num_judged:,} held-out images tell rates apart only where they differ by {100 * noise:.1f} points"
        return replace(conclusion, nothing=f"{told}; raise --budget, or compare whole trainings with several run.seed")
    learnt = accuracy[best] - guess
    exploded = [
        trial.learning_rate
        for trial in tried
        if trial.steps == trials[0].steps and trial.learning_rate > best and trial.accuracy < guess + learnt / 2
    ]
    conclusion = replace(conclusion, explodes_from=min(exploded, default=None))
    # A rate next to one that explodes may do so as well, with another seed or later in a longer training.
    highest = 1.01 * min(exploded, default=math.inf) / FACTOR  # rates are rounded
    if own <= highest and (own == best or (own in errors and behind[own] <= errors[own])):
        return replace(conclusion, suggestion=own)
    middle = _middle({rate: max(0.0, 1 - behind[rate] / (NEARLY * learnt)) for rate in (best, *neighbours)})
    return replace(conclusion, suggestion=float(f"{min(middle, highest):.2g}"))


def standard_error(some: Sequence[Trial], others: Sequence[Trial]) -> float:
    """Of the difference of two mean accuracies, measured on the same images; never quite 0.

    Of n images, the two sides judge d differently: sqrt(d + 1) / n, as in McNemar's test.
    """
    other_of = {trial.seed: trial for trial in others}
    pairs = [(trial, other_of[trial.seed]) for trial in some]
    differing = sum(int(np.count_nonzero(trial.right != other.right)) for trial, other in pairs)
    return math.sqrt(differing + 1) / sum(trial.num_held_out for trial, _ in pairs)


def _middle(weights: Mapping[float, float]) -> float:
    """The weighted geometric mean of rates."""
    return math.exp(sum(weight * math.log(rate) for rate, weight in weights.items()) / sum(weights.values()))


def _mean_loss(some: Sequence[Trial]) -> float:
    return fmean(math.inf if trial.loss is None else trial.loss for trial in some)


def _agreement(trials: Sequence[Trial], best: float) -> tuple[int, int]:
    """How many seeds have their best rate near this one, of how many."""
    seeds = sorted({trial.seed for trial in trials})
    bests = [max((t for t in trials if t.seed == seed), key=lambda t: t.accuracy).learning_rate for seed in seeds]
    return sum(abs(math.log(rate / best)) < math.log(1.1 * FACTOR) for rate in bests), len(seeds)
