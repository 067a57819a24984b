"""Batches: an order of examples, cut into pieces."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnntrain.data.pipeline import AugmentationPipeline, ItemPreprocessing
from cnntrain.data.split import Split
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.runtime.seeds import generator


class Batch(NamedTuple):
    """What the network takes and what it should say.

    Attributes:
        images: float32 (B, *inputs.shape), normalised, as `Inputs` says of the network; images are smaller while they
            grow (`recipe.progressive_resizing`).
        targets: int64 (B,), or float32 (B, K) where labels are mixed.
    """

    images: Tensor
    targets: Tensor


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Batches in an epoch of training.

    Every example is seen once, so the last batch may be smaller; but a last batch of a single one is left out,
    because batch norm cannot normalise one value.
    """
    full, left = divmod(num_examples, batch_size)
    return full + (left > 1 or full == 0)


def epoch_order(targets: Tensor, *, seed: int, epoch: int, balanced: bool = False) -> Tensor:
    """The order of the examples in an epoch, int64 (N,), a function of (seed, epoch).

    With `balanced`, N of them are drawn with replacement so that every class is equally likely.
    """
    rng = generator("order", seed, epoch)
    if not balanced:
        return torch.from_numpy(rng.permutation(len(targets)))
    labels = targets.cpu().numpy()
    rarity = 1 / np.bincount(labels)[labels]
    return torch.from_numpy(rng.choice(len(labels), size=len(labels), p=rarity / rarity.sum()))


def train_batches(
    split: Split,
    pipeline: AugmentationPipeline,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    first: int = 0,
    balanced: bool = False,
    image_size: int | None = None,
    rows_of: Callable[[int], Sequence[slice]] = lambda num_examples: [slice(0, num_examples)],
) -> Iterator[Batch]:
    """The augmented batches of an epoch, on the device that trains, or of each the rows that are wanted here.

    Args:
        split: Whose examples.
        pipeline: What happens to them.
        batch_size: The last batch may be smaller, see `steps_per_epoch`.
        seed: Of order and augmentation, together with the epoch.
        epoch: From 1.
        first: How many batches of the epoch to leave out at its start.
        balanced: See `epoch_order`.
        image_size: To which images are shrunk at last, px; None leaves them as they are.
        rows_of: Of a batch of so many examples those that are wanted, as pieces, in their order.

    Raises:
        DataError: A streamed example cannot be read.
    """
    device, num_examples = split.targets.device, len(split)
    steps = [
        _step(start, min(batch_size, num_examples - start), num_examples, rows_of, in_pairs=pipeline.mixing is not None)
        for start in range(first * batch_size, steps_per_epoch(num_examples, batch_size) * batch_size, batch_size)
    ]
    if not steps:  # whoever goes on at the end of an epoch
        return
    ends = np.cumsum([0, *(len(step.positions) for step in steps)]).tolist()
    spans = [slice(start, stop) for start, stop in pairwise(ends)]
    positions = torch.from_numpy(np.concatenate([step.positions for step in steps]))
    order = epoch_order(split.targets, seed=seed, epoch=epoch, balanced=balanced)[positions]
    draws = [table[positions].to(device) for table in pipeline.draw(seed, epoch, num_examples)]
    for step, span, (items, targets) in zip(steps, spans, split.read(order, spans), strict=True):
        images, targets = pipeline(items, targets, [table[span] for table in draws])
        if step.kept is not None:
            images, targets = images[step.kept], targets[step.kept]
        yield Batch(images if image_size is None else pipeline.preprocessing.resized(images, image_size), targets)


class _Step(NamedTuple):
    """What is read for a step.

    Attributes:
        positions: int64 (M,), in the epoch's order.
        kept: Which of these are the step's; None where all are.
    """

    positions: npt.NDArray[np.int64]
    kept: slice | Tensor | None


def _step(
    start: int, size: int, num_examples: int, rows_of: Callable[[int], Sequence[slice]], *, in_pairs: bool
) -> _Step:
    """What is read for the step whose batch begins at position `start` of `num_examples`.

    Mixing needs whole pairs (2k, 2k + 1): their neighbours come along, and are left out again. So is the first example
    of a batch of which no row is wanted: nothing is made to go without any.
    """
    rows = [np.arange(start + piece.start, start + piece.stop) for piece in rows_of(size)]
    wanted = np.concatenate(rows) if len(rows) > 1 else rows[0]
    positions = wanted if len(wanted) else np.array([start])
    if in_pairs:
        pairs = np.unique(positions // 2)
        positions = np.stack([2 * pairs, 2 * pairs + 1], axis=1).reshape(-1)
        positions = positions[positions < num_examples]
    if len(positions) == len(wanted):
        return _Step(positions, None)
    first = int(np.searchsorted(positions, wanted[0])) if len(wanted) else 0
    is_whole = len(wanted) == 0 or wanted[-1] - wanted[0] == len(wanted) - 1
    kept = slice(first, first + len(wanted)) if is_whole else torch.from_numpy(np.searchsorted(positions, wanted))
    return _Step(positions, kept)


def eval_batches(
    split: Split, preprocessing: ItemPreprocessing, batch_size: int, processes: Processes = ALONE
) -> Iterator[Batch]:
    """All examples once, in their own order, as they are; of several processes each has some of the batches.

    Raises:
        DataError: A streamed example cannot be read.
    """
    batches = [slice(start, start + batch_size) for start in range(0, len(split), batch_size)]
    spans = processes.share(batches)
    for items, targets in split.read(torch.arange(len(split)), spans):
        yield Batch(preprocessing.network_input(items), targets)
