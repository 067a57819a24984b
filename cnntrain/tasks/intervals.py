"""How far a number of few cases could be chance."""

import math
from collections.abc import Iterable
from typing import NamedTuple

_Z = 1.959963984540054  # within which 95 % of a normal distribution lie


class Interval(NamedTuple):
    """In which a value lies with 95 % confidence."""

    low: float
    high: float


def wilson_interval(successes: int, total: int) -> Interval:
    """The 95 % interval of a share that was seen `successes` times among `total`; [0, 1] where there were none.

    Wilson: "Probable inference, the law of succession, and statistical inference", 1927. It stays sensible with few
    cases, and where all or none are successes.
    """
    if not total:
        return Interval(0.0, 1.0)
    share, weight = successes / total, _Z**2 / total
    middle = share + weight / 2
    spread = math.sqrt(share * (1 - share) * weight + weight**2 / 4)
    low, high = ((middle + sign * spread) / (1 + weight) for sign in (-1, 1))
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == total else high)


def widest_spread(total: int) -> float:
    """How far a share of so many cases may be off by chance, at most: half of Wilson's interval where half succeed."""
    return _Z / 2 / math.sqrt(total + _Z**2)


def mean_interval(counts: Iterable[tuple[int, int]]) -> Interval:
    """The 95 % interval of the mean of independent shares, such as the recalls of classes; [0, 1] where there are none.

    Each share's own interval is Wilson's, and their distances to it add up as variances do, after Zou, Huang and Zhang:
    "A note on confidence interval estimation for a linear function of binomial proportions", 2009. Of the two distances
    the larger one counts: hundreds of shares of two cases, most of them 1, would else leave no room above.

    Args:
        counts: Successes and total, above 0, of each share.
    """
    pairs = list(counts)
    if not pairs:
        return Interval(0.0, 1.0)
    shares = [successes / total for successes, total in pairs]
    single = [wilson_interval(*pair) for pair in pairs]
    middle = math.fsum(shares) / len(shares)
    distances = [max(share - own.low, own.high - share) for share, own in zip(shares, single, strict=True)]
    spread = math.hypot(*distances) / len(shares)
    return Interval(max(0.0, middle - spread), min(1.0, middle + spread))


def difference_interval(gained: int, lost: int, total: int) -> Interval:
    """The 95 % interval of the difference of two shares that were seen in the same cases.

    Agresti and Min: "Simple improved confidence intervals for comparing matched proportions", 2005: half a case is
    added to each way of being right or wrong, so that few cases, and those in which both agree, leave room for chance.

    Args:
        gained: Cases in which the second alone was a success.
        lost: Cases in which the first alone was.
        total: All cases.
    """
    gained_more, lost_more, total_more = gained + 0.5, lost + 0.5, total + 2
    middle = (gained_more - lost_more) / total_more
    variance = (gained_more + lost_more) / total_more - middle**2
    spread = _Z * math.sqrt(variance / total_more)
    return Interval(max(-1.0, middle - spread), min(1.0, middle + spread))


def spoken(interval: Interval, digits: int = 1) -> str:
    """[0.342, 1] -> `34.2 to 100.0 %`."""
    return f"{100 * interval.low:.{digits}f} to {100 * interval.high:.{digits}f} %"
