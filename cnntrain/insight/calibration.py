"""Is a network as sure as it is right?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

NUM_BINS = 15
_DRAWS = 200


@dataclass(frozen=True)
class Reliability:
    """Images by confidence, in bins of equal width; of a bin without images confidence and accuracy are NaN.

    Attributes:
        edges: (B + 1,), from 0 to 1; a bin holds its upper edge.
        counts: int64 (B,).
        confidence: (B,), the mean.
        accuracy: (B,).
    """

    edges: Values
    counts: npt.NDArray[np.int64]
    confidence: Values
    accuracy: Values

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance of confidence and accuracy over all images, in [0, 1].

        Naeini et al.: "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015; Guo et al., ICML
        2017, equation 3.
        """
        filled = self.counts > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


def reliability(confidences: npt.ArrayLike, right: npt.ArrayLike, num_bins: int = NUM_BINS) -> Reliability:
    """Sorts predictions into bins.

    Args:
        confidences: (N,) in [0, 1], the probability of the predicted class.
        right: bool (N,).
        num_bins: B.
    """
    confidences, right = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (
            np.bincount(bins, weights=values, minlength=num_bins) / counts for values in (confidences, right)
        )
    return Reliability(edges, counts, confidence, accuracy)


def calibration_error_by_chance(confidences: npt.ArrayLike, seed: int = 0) -> float:
    """The calibration error that 19 of 20 networks with these confidences, were they true, would stay below.

    With few images even a network that is just as sure as it is right shows an error.

    Args:
        confidences: (N,) in [0, 1].
        seed: Of the draws.
    """
    confidences, rng = np.asarray(confidences, dtype=np.float64), np.random.default_rng(seed)
    draws = (rng.random(len(confidences)) < confidences for _ in range(_DRAWS))
    return float(np.quantile([reliability(confidences, right).expected_calibration_error for right in draws], 0.95))
