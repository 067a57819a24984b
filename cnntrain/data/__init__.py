"""Data preparation: from a configuration to three splits, one preprocessing and one class list."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_cache_path

from cnntrain.config import schema
from cnntrain.data.datasets import digits, torchvision_dataset
from cnntrain.data.image_folder import scan_image_folder
from cnntrain.data.preprocessing import Preprocessing, channel_statistics
from cnntrain.data.source import Labels, Progress, Source
from cnntrain.data.split import Split, make_split
from cnntrain.data.splits import Indices, carve
from cnntrain.errors import ConfigError, DataError

__all__ = ["Preprocessing", "Split", "Splits", "default_data_root", "prepare_data"]


@dataclass(frozen=True)
class Splits:
    """The three sets of images, which never share one.

    Attributes:
        notices: What the user should know about the data, one sentence each.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    notices: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def to(self, device: torch.device) -> "Splits":
        """The same splits in the memory of another device."""
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def identity(self) -> dict[str, dict[str, Any]]:
        """How many images each split has, and their hash."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: {"num_images": len(split), "sha256": split.sha256} for name, split in splits.items()}


def prepare_data(
    config: schema.Data,
    *,
    data_root: str | None = None,
    preprocessing: Preprocessing | None = None,
    progress: Progress | None = None,
) -> Splits:
    """Finds the images, carves the splits, decodes everything once.

    Args:
        config: The `data` section.
        data_root: Where data sets live; by default `default_data_root`.
        preprocessing: A checkpoint's, to be used as it is; by default made from the configuration, with the
            mean and deviation of the training images.
        progress: Wraps a slow loop to show how far it is.

    Raises:
        ConfigError: The configuration does not fit the data.
        DataError: Images are missing, unreadable or too few.
    """
    folder = Path(data_root) if data_root else default_data_root(config.source)
    source = _open_source(config, folder)
    indices, owners = _choose_images(source, config)
    fitting = preprocessing or _fitting(source, config)
    _check_memory(source, fitting)
    stored = {part: found.load(fitting, progress or _no_progress) for part, found in source.parts.items()}

    def split(name: str) -> Split:
        part = source.parts[owners[name]]
        return make_split(stored[owners[name]], part.labels, part.names, indices[name])

    train = split("train")
    if preprocessing is None and config.mean is None:
        mean, std = channel_statistics(train.images)
        fitting = replace(fitting, mean=mean, std=std)
    return Splits(train, split("val"), split("test"), source.class_names, fitting, source.notices)


def default_data_root(source: str) -> Path:
    """Where data sets live when nothing is said: a cache folder in the user's home; one's own images, right here."""
    return Path.cwd() if source == "image_folder" else user_cache_path("cnntrain") / "data"


def _open_source(config: schema.Data, data_root: Path) -> Source:
    root = data_root.expanduser() / Path(config.root or "").expanduser()
    match config.source:
        case "digits":
            return digits()
        case "image_folder":
            return scan_image_folder(root, config.splits.model_dump() if config.splits else {})
        case name:
            return torchvision_dataset(name, root)


def _choose_images(source: Source, config: schema.Data) -> tuple[Mapping[str, Indices], Mapping[str, str]]:
    """For each split its images, as positions in a part, and which part that is."""
    labels: dict[str, Labels] = {name: part.labels for name, part in source.parts.items()}
    indices: dict[str, Indices] = {name: np.arange(len(found)) for name, found in labels.items()}
    owners = {name: name for name in labels}
    # The test images first, so that another val_fraction does not move them.
    for name, fraction in (("test", config.test_fraction), ("val", config.val_fraction)):
        if name not in indices:
            train = indices["train"]
            kept, taken = carve(labels["train"][train], fraction, seed=config.split_seed, purpose=name)
            indices["train"], indices[name], owners[name] = train[kept], train[taken], "train"
        if len(indices[name]) == 0:
            raise DataError(
                f"too few images: none is left for {name} when each class keeps one for training; "
                f"add images, or give {name} a folder of its own"
            )
    return indices, owners


def _fitting(source: Source, config: schema.Data) -> Preprocessing:
    channels = config.channels or (len(config.mean) if config.mean else source.channels)
    image_size = config.image_size or source.image_size
    stored_size = config.stored_size or image_size
    if stored_size < image_size:
        raise ConfigError(f"must be at least image_size {image_size} (got {stored_size})", key="data.stored_size")
    mean, std = config.mean or (0.5,) * channels, config.std or (0.5,) * channels
    return Preprocessing(channels, image_size, stored_size, config.resize, mean, std)


def _check_memory(source: Source, fitting: Preprocessing) -> None:
    num_images = sum(len(part.labels) for part in source.parts.values())
    needed = num_images * fitting.stored_size**2 * fitting.channels
    # Physical memory, because what is "free" at the moment leaves out the file cache, which gives way.
    known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= getattr(os, "sysconf_names", {}).keys()
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else math.inf
    if needed > 0.8 * available:
        raise DataError(
            f"{num_images:,} images of {fitting.stored_size} px need {needed / 2**30:.1f} GiB of memory and this "
            f"machine has {available / 2**30:.1f}; lower data.stored_size or data.image_size"
        )


def _no_progress(items: Iterable[Any], _total: int, _what: str) -> Iterable[Any]:
    return items
