"""The metrics that early stopping and a plateau may watch, of all tasks, and in which direction each is better."""

from typing import Literal

Watched = Literal["accuracy", "loss", "balanced_accuracy", "macro_f1"]
LOWER_IS_BETTER = frozenset({"loss"})


def goodness(metric: str, value: float) -> float:
    """The value of a metric, turned where lower is better, so that the higher of two is always the better one."""
    return -value if metric in LOWER_IS_BETTER else value
