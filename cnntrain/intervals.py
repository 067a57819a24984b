"""How far a number of few cases could be chance."""

import math
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
