"""Examples that are there more than once: those with equal content, whatever their files are."""

from collections.abc import Iterable

import numpy as np

from cnntrain.data.arrays import Digests, Groups, Pairs


def exact_copies(digests: Digests) -> Groups:
    """Which examples have equal content, int64 (N,).

    Args:
        digests: uint8 (N, 32), of their content.
    """
    # Eight bytes of a sha256: among a million examples, one in 30 million says that two are equal that are not.
    numbers = digests[:, :8].copy().view(np.uint64).ravel()
    _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    groups: Groups = first[which]
    return groups


def joined(groups: Groups, others: Groups) -> Groups:
    """Groups that part no two examples which either keeps together, int64 (N,).

    Args:
        groups: int64 (N,).
        others: int64 (M,), of the first M examples.
    """
    links = [np.stack([np.arange(len(some)), some], axis=1) for some in (groups, others)]
    return connected(links, len(groups))


def connected(pairs: Iterable[Pairs], count: int) -> Groups:
    """For each of `count` examples the first one that pairs of them connect it with, int64 (count,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    some, others = np.concatenate([np.empty((0, 2), dtype=np.int64), *pairs]).T
    graph = coo_array((np.ones(len(some), dtype=np.int8), (some, others)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, leaders, group = np.unique(component, return_index=True, return_inverse=True)
    groups: Groups = leaders[group]
    return groups
