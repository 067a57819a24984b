"""Mean and standard deviation of the training images."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from cnntrain.data import cache
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.split import Split

MAX_IMAGES = 65_536  # of more a sample is taken: decoding is what takes the time, and the figures no longer move

Counts = npt.NDArray[np.int64]


def with_statistics(
    preprocessing: Preprocessing, train: Split, reporter: Reporter, *, is_at_hand: bool
) -> Preprocessing:
    """The same preprocessing, normalising by the mean and standard deviation of the training images.

    Args:
        preprocessing: How the images were fitted.
        train: The training images.
        reporter: Is told where they have to be read.
        is_at_hand: Whether memory holds them; else counting reads files, so it is done once for the same images.
    """

    def count() -> Counts:
        reporter.say("     reading training images for mean and std; data.mean and data.std make this unnecessary")
        return count_levels(train)

    if is_at_hand:
        counts = count_levels(train)
    else:
        how = f"{preprocessing.channels} {preprocessing.stored_size} {preprocessing.resize}"
        key = cache.key_of_text(f"levels {train.identity()['sha256']} {how}")
        counts = cache.remember(key, count, np.int64, (preprocessing.channels, 256), reporter.say)
    mean, std = channel_statistics(counts)
    return replace(preprocessing, mean=mean, std=std)


def count_levels(split: Split) -> Counts:
    """How often each channel of the images has each level: int64 (C, 256).

    Of a large set, `MAX_IMAGES` are taken at even distances.
    """
    num_images = min(len(split), MAX_IMAGES)
    order = torch.linspace(0, len(split) - 1, num_images, dtype=torch.float64).round().long()
    counts = torch.zeros(split.items([0]).shape[-1], 256, dtype=torch.int64, device=split.targets.device)
    for images, _ in split.read(order, [slice(start, start + 128) for start in range(0, num_images, 128)]):
        channels = images.flatten(0, 2).T
        counts += torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    levels: Counts = counts.cpu().numpy()
    return levels


def channel_statistics(counts: Counts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of images scaled to [0, 1], from `count_levels`.

    The counts are integers, so the result does not depend on the order of the images. A constant channel gets the
    deviation 1/255, so that dividing by it is harmless.
    """
    shares, levels = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = shares @ levels
    std = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0)).clip(min=1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())
