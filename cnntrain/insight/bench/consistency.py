"""Which figures contradict one another, as they may where a busy machine slows one part down and not the next."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from cnntrain.insight.bench.measuring import Figures

NOISE = 0.05  # by which a part may seem to take longer than the whole


def contradictions(figures: Figures) -> dict[str, str]:
    """The names of the figures that cannot all be true, and why, as part of a sentence."""
    return dict(_contradictions(figures))


def consistent(figures: Figures) -> dict[str, Any]:
    """The figures by name, null where they contradict one another, and under `withheld` why."""
    wrong = contradictions(figures)
    return {**asdict(figures), **dict.fromkeys(wrong, None), "withheld": list(dict.fromkeys(wrong.values()))}


def _contradictions(figures: Figures) -> Iterator[tuple[str, str]]:
    # Of the ratio and of the medians beside it: on a busy machine they are far apart.
    training = max(figures.train_ratio, figures.train_rate / figures.bare_step_rate)
    evaluation = max(figures.evaluate_ratio, figures.evaluate_rate / figures.forward_rate)
    data = figures.train_rate / figures.data_rate
    if training > 1 + NOISE:
        why = f"training came out {training:.2f} times as fast as the bare step, which is a part of it"
        yield from ((name, why) for name in ("bare_step_rate", "train_rate", "train_ratio", "shares"))
    if evaluation > 1 + NOISE:
        why = f"evaluation came out {evaluation:.2f} times as fast as its bare forward pass"
        yield from ((name, why) for name in ("forward_rate", "evaluate_rate", "evaluate_ratio"))
    if data > 1 + NOISE:
        why = f"training came out {data:.2f} times as fast as its data path alone"
        yield from ((name, why) for name in ("train_rate", "train_ratio", "data_rate", "shares"))
    low, high = min(figures.shares.values()), max(figures.shares.values())
    if low < -NOISE or high > 1 + NOISE:
        yield "shares", f"the shares of training came out between {low:.0%} and {high:.0%}"
