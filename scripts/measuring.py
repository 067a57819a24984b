"""Speeds measured in rounds, what they are compared by, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass
class Measured:
    """What a contender reached.

    Attributes:
        contender: Who.
        settings: How it was set up.
        workers: Its DataLoader's worker processes; None where it has no DataLoader.
        speeds: images/s, one for each round.
    """

    contender: str
    settings: str
    workers: int | None
    speeds: list[float] = field(default_factory=list)


def rotated(items: Sequence[Item], turn: int, turns: int) -> list[Item]:
    """The items from another start in each turn, so that no one always runs first or after the same pause."""
    start = turn * len(items) // turns
    return [*items[start:], *items[:start]]


def fastest(measured: Iterable[Measured]) -> list[Measured]:
    """Of those that differ in their workers alone, the one with the highest median: each is shown at its best."""
    best: dict[tuple[str, str], Measured] = {}
    for one in measured:
        known = best.setdefault((one.contender, one.settings), one)
        if statistics.median(one.speeds) > statistics.median(known.speeds):
            best[one.contender, one.settings] = one
    return list(best.values())


def times_as_fast(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of the ratio within a round: what slows a whole round down cancels out."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def comparison(title: str, measured: Sequence[Measured]) -> list[list[str]]:
    """A row of the table for each contender, the first of which is the one that the others are compared with."""
    ours = measured[0]
    rows = []
    for one in fastest(measured):
        speed, low, high = statistics.median(one.speeds), min(one.speeds), max(one.speeds)
        rows.append(
            [
                title,
                one.contender,
                one.settings,
                "" if one.workers is None else str(one.workers),
                f"{speed:,.0f} ({low:,.0f} to {high:,.0f})",
                "" if one is ours else f"{times_as_fast(ours.speeds, one.speeds):.2f}",
            ]
        )
    return rows


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
