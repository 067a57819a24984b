"""Carving one set of images into two, class by class."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnntrain.runtime.seeds import generator

Indices = npt.NDArray[np.int64]


class Carved(NamedTuple):
    """Positions in the set that was carved, each sorted; together they are the whole set."""

    kept: Indices
    taken: Indices


def carve(labels: Indices, fraction: float, *, seed: int, purpose: str) -> Carved:
    """Takes about `fraction` of each class at random.

    Of a class with two or more images at least one is taken and one kept; of a class with one none is taken.

    Args:
        labels: int64 (N,).
        fraction: In (0, 1).
        seed: The split's own seed.
        purpose: `val` or `test`, so that the two are drawn independently.
    """
    rng = generator(f"split {purpose}", seed)
    taken = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        taken[rng.permutation(members)[:count]] = True
    return Carved(np.flatnonzero(~taken), np.flatnonzero(taken))
