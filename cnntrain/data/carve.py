"""Carving one set of examples into two, class by class; copies stay together."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from cnntrain.data.arrays import Indices
from cnntrain.runtime.seeds import generator


class Carved(NamedTuple):
    """Positions in the set that was carved, each sorted; together they are the whole set."""

    kept: Indices
    taken: Indices


def carve(labels: Indices, fraction: float, *, seed: int, purpose: str, groups: Indices | None = None) -> Carved:
    """Takes about `fraction` of each class at random, whole groups only.

    Of a class with two or more images at least one is taken and one kept, if groups allow; of a class with one none is
    taken. Where no group has two images, the result is the same as without groups.

    Args:
        labels: int64 (N,).
        fraction: In [0, 1).
        seed: The split's own seed.
        purpose: `val` or `test`, so that the two are drawn independently.
        groups: int64 (N,), the same number for images that must not be parted; None: each is alone.
    """
    rng = generator(f"split {purpose}", seed)
    taken = np.zeros(len(labels), dtype=bool)
    if fraction == 0:
        return Carved(np.arange(len(labels)), np.flatnonzero(taken))
    together = None
    if groups is not None and len(np.unique(groups)) < len(groups):
        together = _Together(labels, fraction, groups)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = rng.permutation(members)
        if together and together.has_groups(members):
            taken[together.choose(int(label), order)] = True
        else:
            taken[order[: _number(fraction, len(members))]] = True
    return Carved(np.flatnonzero(~taken), np.flatnonzero(taken))


def _number(fraction: float, size: int) -> int:
    """How many are taken of a class of this size."""
    return min(max(1, round(fraction * size)), size - 1)


class _Together:
    """Chooses whole groups, whose images may be of several classes.

    Args:
        labels: int64 (N,).
        fraction: To be taken of each class.
        groups: int64 (N,).
    """

    def __init__(self, labels: Indices, fraction: float, groups: Indices) -> None:
        self._groups = groups
        self._sizes = Counter(labels.tolist())
        self._wanted = {label: _number(fraction, size) for label, size in self._sizes.items()}
        self._taken: Counter[int] = Counter()  # by class
        self._done: set[int] = set()  # groups that are taken
        numbers, counts = np.unique(groups, return_counts=True)
        self._members: dict[int, Indices] = {}  # of groups of several images
        self._content: dict[int, Counter[int]] = {}
        several = np.flatnonzero(np.isin(groups, numbers[counts > 1]))
        several = several[np.argsort(groups[several], kind="stable")]
        starts = np.flatnonzero(np.diff(groups[several], prepend=-1))
        for members in np.split(several, starts[1:]):
            self._members[int(groups[members[0]])] = members
            self._content[int(groups[members[0]])] = Counter(labels[members].tolist())

    def has_groups(self, members: Indices) -> bool:
        """Whether any of these images is not alone."""
        return any(group in self._content for group in self._groups[members].tolist())

    def choose(self, label: int, order: Indices) -> Indices:
        """Groups with images of a class, the first ones of an order that fit; positions of all their images."""
        mine = dict(zip(self._groups[order].tolist(), order[:, None], strict=True))
        chosen = [group for group in mine if self._take(group, label, self._excess(group, label) <= 0)]
        rest = [group for group in mine if group not in self._done and self._leaves_one(group, label)]
        if rest:  # one more, where that comes closer to what is wanted, or nothing was taken
            best = min(rest, key=lambda group: self._excess(group, label))
            missing = self._wanted[label] - self._taken[label]
            closer = self._excess(best, label) < missing
            chosen += [best] if self._take(best, label, closer or self._taken[label] == 0) else []
        return np.concatenate(
            [np.empty(0, dtype=np.int64), *(self._members.get(group, mine[group]) for group in chosen)]
        )

    def _of(self, group: int, label: int) -> Counter[int]:
        """How many images of each class are in a group."""
        return self._content.get(group) or Counter({label: 1})

    def _excess(self, group: int, label: int) -> int:
        """By how many images more than wanted a class would have with this group; of all its classes the most."""
        content = self._of(group, label)
        return max(self._taken[other] + number - self._wanted[other] for other, number in content.items())

    def _leaves_one(self, group: int, label: int) -> bool:
        content = self._of(group, label)
        return all(self._taken[other] + number < self._sizes[other] for other, number in content.items())

    def _take(self, group: int, label: int, is_wanted: bool) -> bool:
        if group in self._done or not is_wanted:
            return False
        self._done.add(group)
        self._taken.update(self._of(group, label))
        return True
