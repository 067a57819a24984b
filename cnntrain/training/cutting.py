"""How a batch is cut into what goes through the network at once, on one process or on several.

A pass is a part of the batch, and each process has a portion of every pass: so batch norm sees, where its statistics
are those of all processes, the same examples however many processes there are. Where a batch is cut into shards
(`recipe.shards`), each of these is whole on one process.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from cnntrain.data.batches import Batch
from cnntrain.runtime.processes import Processes


class Portion(NamedTuple):
    """Examples of a batch that go through the network at once on this process.

    Attributes:
        rows: Which of the batch.
        whole: Those of all processes that go through at the same time.
        shard: The shard that they belong to, from 0; None where there are none.
        ends_shard: Whether they are the last of it.
    """

    rows: slice
    whole: slice
    shard: int | None = None
    ends_shard: bool = False

    @property
    def size(self) -> int:
        """How many examples; on a process with nothing to do in a small batch there are none."""
        return int(self.rows.stop - self.rows.start)


def cut(num_examples: int, *, micro_batch: int | None, shards: int | None, processes: Processes) -> list[Portion]:
    """The portions of a batch that fall to this process, in the order in which they are computed.

    Args:
        num_examples: Of the whole batch.
        micro_batch: The most examples of a pass, of all processes together; of shards, of each.
        shards: Into how many shards the batch is cut, if at all.
        processes: Among whom.
    """
    everything = slice(0, num_examples)
    if shards is None:
        passes = _pieces(everything, _num_passes(num_examples, micro_batch))
        return [Portion(_pieces(whole, processes.count)[processes.rank], whole) for whole in passes]
    num_passes = _num_passes(-(-num_examples // shards), micro_batch)  # the same of all shards
    return [
        Portion(rows, rows, shard, ends_shard=number == num_passes)
        for shard, span in processes.share(list(enumerate(_pieces(everything, shards))))
        for number, rows in enumerate(_pieces(span, num_passes), start=1)
    ]


def cut_up(batch: Batch, portions: Sequence[Portion]) -> list[Batch]:
    """The portions of a batch, of which it has the rows that fall to this process, one portion after another."""
    if len(portions) == 1:
        return [batch]
    sizes = [portion.size for portion in portions]
    return [Batch(*some) for some in zip(batch.images.split(sizes), batch.targets.split(sizes), strict=True)]


def _num_passes(num_examples: int, size: int | None) -> int:
    """In how many passes of at most `size`; none is of a single example, which batch norm could not take."""
    if size is None or size >= num_examples:
        return 1
    return max(1, min(math.ceil(num_examples / size), num_examples // min(size, 2)))


def _pieces(span: slice, number: int) -> list[slice]:
    """Neighbouring pieces, nearly equal, the longer ones first; where there are too few examples some are empty."""
    length, longer = divmod(span.stop - span.start, number)
    stops = [span.start + index * length + min(index, longer) for index in range(number + 1)]
    return [slice(start, stop) for start, stop in pairwise(stops)]
