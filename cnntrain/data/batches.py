"""Batches: an order of examples, cut into pieces."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cnntrain.data.pipeline import AugmentationPipeline, ItemPreprocessing
from cnntrain.data.split import Split
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
) -> Iterator[Batch]:
    """The augmented batches of an epoch, on the device that trains.

    Args:
        split: Whose examples.
        pipeline: What happens to them.
        batch_size: The last batch may be smaller, see `steps_per_epoch`.
        seed: Of order and augmentation, together with the epoch.
        epoch: From 1.
        first: How many batches of the epoch to leave out at its start.
        balanced: See `epoch_order`.
        image_size: To which images are shrunk at last, px; None leaves them as they are.

    Raises:
        DataError: A streamed example cannot be read.
    """
    device, num_examples = split.targets.device, len(split)
    order = epoch_order(split.targets, seed=seed, epoch=epoch, balanced=balanced)
    draws = [table.to(device) for table in pipeline.draw(seed, epoch, num_examples)]
    spans = [
        slice(step * batch_size, min((step + 1) * batch_size, num_examples))
        for step in range(first, steps_per_epoch(num_examples, batch_size))
    ]
    # Mixing needs whole pairs (2k, 2k + 1): take the neighbours along, and leave them out again.
    taken = [_whole_pairs(span, num_examples) for span in spans] if pipeline.mixing else spans
    for span, wide, (items, targets) in zip(spans, taken, split.read(order, taken), strict=True):
        images, targets = pipeline(items, targets, [table[wide] for table in draws])
        kept = slice(span.start - wide.start, span.stop - wide.start)
        images, targets = images[kept], targets[kept]
        yield Batch(images if image_size is None else pipeline.preprocessing.resized(images, image_size), targets)


def micro_batches(batch: Batch, size: int | None) -> Iterator[Batch]:
    """A batch in parts of at most `size` examples, nearly equal: a part of a single one batch norm could not take."""
    num_examples = len(batch.targets)
    if size is None or size >= num_examples:
        yield batch
        return
    num_parts = max(1, min(math.ceil(num_examples / size), num_examples // min(size, 2)))
    for images, targets in zip(
        batch.images.tensor_split(num_parts), batch.targets.tensor_split(num_parts), strict=True
    ):
        yield Batch(images, targets)


def eval_batches(split: Split, preprocessing: ItemPreprocessing, batch_size: int) -> Iterator[Batch]:
    """All examples once, in their own order, as they are.

    Raises:
        DataError: A streamed example cannot be read.
    """
    spans = [slice(start, start + batch_size) for start in range(0, len(split), batch_size)]
    for items, targets in split.read(torch.arange(len(split)), spans):
        yield Batch(preprocessing.network_input(items), targets)


def _whole_pairs(span: slice, num_examples: int) -> slice:
    return slice(span.start // 2 * 2, min(math.ceil(span.stop / 2) * 2, num_examples))
