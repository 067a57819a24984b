"""How far a test result could be chance: bootstrap confidence intervals."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cnntrain.intervals import Interval, wilson_interval
from cnntrain.metrics import Counts

NUM_RESAMPLES = 2000


def bootstrap_intervals(confusion: Counts, seed: int = 0) -> Mapping[str, Interval]:
    """95 % intervals of accuracy (Wilson's) and, where images differ enough to tell, balanced accuracy (bootstrap).

    Drawing test images with replacement is drawing the cells of the confusion matrix from a multinomial, which takes
    no images. Efron and Tibshirani: "An introduction to the bootstrap", 1993, chapter 13.

    Args:
        confusion: int64 (K, K), rows the truth, of N images.
        seed: Of the draws.
    """
    num_classes, num_images = len(confusion), int(confusion.sum())
    rng = np.random.default_rng(seed)
    cells = np.flatnonzero(confusion)  # at most N, where K * K may be a million
    truth, right = cells // num_classes, cells // num_classes == cells % num_classes
    shares = confusion.ravel()[cells] / num_images
    balanced = np.empty(NUM_RESAMPLES)
    for index in range(NUM_RESAMPLES):
        drawn = rng.multinomial(num_images, shares)
        support = np.bincount(truth, weights=drawn, minlength=num_classes)
        hits = np.bincount(truth[right], weights=drawn[right], minlength=num_classes)
        balanced[index] = (hits[support > 0] / support[support > 0]).mean()
    found = {"accuracy": wilson_interval(int(np.trace(confusion)), num_images)}
    interval = _middle(balanced)
    return found | ({"balanced_accuracy": interval} if interval.low < interval.high else {})


def bootstrap_difference(right: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], seed: int = 0) -> Interval:
    """The 95 % interval of how much more accurate the other of two networks is.

    Args:
        right: bool (N,), whether the first was right.
        other: bool (N,), likewise, on the same images in the same order.
        seed: Of the draws.
    """
    differences = other.astype(np.int64) - right
    counts = np.array([(differences == value).sum() for value in (-1, 0, 1)])
    drawn = np.random.default_rng(seed).multinomial(len(right), counts / len(right), size=NUM_RESAMPLES)
    return _middle((drawn[:, 2] - drawn[:, 0]) / len(right))


def _middle(values: npt.NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(float(low), float(high))
