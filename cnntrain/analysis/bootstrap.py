"""How far a test result could be chance: bootstrap confidence intervals."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnntrain.metrics import Counts

NUM_RESAMPLES = 2000


class Interval(NamedTuple):
    """In which a value lies with 95 % confidence."""

    low: float
    high: float


def bootstrap_intervals(confusion: Counts, seed: int = 0) -> Mapping[str, Interval]:
    """Percentile intervals (2.5 to 97.5 %) of accuracy and, where images differ enough to tell, balanced accuracy.

    Drawing test images with replacement is drawing the cells of the confusion matrix from a multinomial, which takes
    no images. Efron and Tibshirani: "An introduction to the bootstrap", 1993, chapter 13. Where all images are right,
    or all wrong, resampling shows no spread, and accuracy's interval is Wilson's ("Probable inference, the law of
    succession, and statistical inference", 1927).

    Args:
        confusion: int64 (K, K), rows the truth, of N images.
        seed: Of the draws.
    """
    num_classes, num_images = len(confusion), int(confusion.sum())
    rng = np.random.default_rng(seed)
    cells = np.flatnonzero(confusion)  # at most N, where K * K may be a million
    truth, right = cells // num_classes, cells // num_classes == cells % num_classes
    shares = confusion.ravel()[cells] / num_images
    accuracies, balanced = np.empty(NUM_RESAMPLES), np.empty(NUM_RESAMPLES)
    for index in range(NUM_RESAMPLES):
        drawn = rng.multinomial(num_images, shares)
        support = np.bincount(truth, weights=drawn, minlength=num_classes)
        hits = np.bincount(truth[right], weights=drawn[right], minlength=num_classes)
        accuracies[index] = hits.sum() / num_images
        balanced[index] = (hits[support > 0] / support[support > 0]).mean()
    accuracy = float(shares[right].sum())
    found = {"accuracy": _middle(accuracies) if 0 < accuracy < 1 else _wilson(round(accuracy), num_images)}
    interval = _middle(balanced)
    return found | ({"balanced_accuracy": interval} if interval.low < interval.high else {})


def _wilson(share: int, num_images: int) -> Interval:
    """Of a share that is 0 or 1."""
    width = 1.96**2 / (num_images + 1.96**2)
    return Interval(1 - width, 1.0) if share else Interval(0.0, width)


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
