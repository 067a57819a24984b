"""Data preparation: from a configuration to three splits, one preprocessing and one class list."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from platformdirs import user_cache_path

from cnntrain.config import schema
from cnntrain.data.carve import Indices, carve
from cnntrain.data.datasets import FACTS, digits, torchvision_dataset
from cnntrain.data.image_folder import CHANNELS, IMAGE_SIZE, scan_image_folder
from cnntrain.data.preprocessing import Preprocessing, channel_statistics
from cnntrain.data.source import Progress, Source
from cnntrain.data.split import Split, make_split
from cnntrain.errors import ConfigError, DataError

__all__ = [
    "Expected",
    "Preprocessing",
    "Progress",
    "Split",
    "Splits",
    "expect_data",
    "prepare_data",
    "prepare_split",
    "resolve_data_root",
]


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
        """How many images each split has and their hash; of val and test, how many are copies of training images."""
        found: dict[str, dict[str, Any]] = {"train": self.train.identity()}
        for name, split in (("val", self.val), ("test", self.test)):
            found[name] = {**split.identity(), "also_in_train": len(split.copies_of(self.train))}
        return found


def resolve_data_root(source: str, said: str | None) -> str:
    """Where data sets live, as an absolute path.

    Args:
        source: The configuration's `data.source`.
        said: What a flag, the configuration or a checkpoint says. Without it, the variable CNNTRAIN_DATA; without
            that, a cache folder in the user's home, or for one's own images the working folder.
    """
    said = said or os.environ.get("CNNTRAIN_DATA")
    if said:
        return str(Path(said).expanduser().absolute())
    return str(Path.cwd() if source == "image_folder" else user_cache_path("cnntrain") / "data")


def prepare_data(config: schema.Data, *, data_root: str | None = None, progress: Progress | None = None) -> Splits:
    """Finds the images, carves the splits, decodes everything once.

    Args:
        config: The `data` section.
        data_root: As `resolve_data_root` takes it.
        progress: Wraps a slow loop to show how far it is; None shows nothing.

    Raises:
        ConfigError: The configuration does not fit the data.
        DataError: Images are missing, unreadable or too few.
    """
    layout = _lay_out(config, data_root, progress)
    preprocessing = _preprocessing(layout.source, config)
    parts = layout.source.parts
    _check_memory(sum(len(part.labels) for part in parts.values()), preprocessing)
    stored = {name: part.load(preprocessing, progress or _no_progress) for name, part in parts.items()}
    train, val, test = (
        make_split(stored[layout.owners[name]], parts[layout.owners[name]], layout.indices[name])
        for name in ("train", "val", "test")
    )
    if config.mean is None:
        mean, std = channel_statistics(train.images)
        preprocessing = replace(preprocessing, mean=mean, std=std)
    notices = list(layout.source.notices)
    for name, split in (("val", val), ("test", test)):
        missing = [label for index, label in enumerate(layout.source.class_names) if index not in split.targets]
        if missing and layout.owners[name] == "train":
            notices.append(f"too few images to carve any for {name} of: {', '.join(missing)}")
        if copies := split.copies_of(train):
            example = split.names[copies[0]]
            notices.append(
                f"{len(copies)} of {len(split):,} {name} images are also in the training set, such as {example}"
            )
    return Splits(train, val, test, layout.source.class_names, preprocessing, tuple(notices))


def prepare_split(
    config: schema.Data,
    name: str,
    *,
    preprocessing: Preprocessing,
    data_root: str | None = None,
    progress: Progress | None = None,
) -> tuple[Split, tuple[str, ...]]:
    """One split alone, prepared as a checkpoint says, and the data's class names.

    Args:
        config: The `data` section.
        name: `train`, `val` or `test`.
        preprocessing: The checkpoint's.
        data_root: As `resolve_data_root` takes it.
        progress: As in `prepare_data`.

    Raises:
        DataError: Images are missing, unreadable or too few.
    """
    layout = _lay_out(config, data_root, progress)
    part = layout.source.parts[layout.owners[name]]
    _check_memory(len(part.labels), preprocessing)
    split = make_split(part.load(preprocessing, progress or _no_progress), part, layout.indices[name])
    return split, layout.source.class_names


class Expected(NamedTuple):
    """What will reach a network; `num_classes` is None where nobody knows yet."""

    channels: int
    image_size: int
    num_classes: int | None


def expect_data(config: schema.Data, *, data_root: str | None = None, num_classes: int | None = None) -> Expected:
    """What `prepare_data` would give, without loading or decoding an image: a folder is looked through, if it is there.

    Args:
        config: The `data` section.
        data_root: As `resolve_data_root` takes it.
        num_classes: Instead of the data's; no folder is looked through then.

    Raises:
        DataError: The folder is there, and not as it should be.
    """
    if config.source != "image_folder":
        facts = FACTS[config.source]
        return Expected(*_network_input(config, facts.channels, facts.image_size), num_classes or facts.num_classes)
    root = _root(config, Path(resolve_data_root(config.source, data_root)))
    if num_classes is None and root.is_dir():
        num_classes = len(_open_folder(config, root).class_names)
    return Expected(*_network_input(config, CHANNELS, IMAGE_SIZE), num_classes)


class _Layout(NamedTuple):
    """For each split the part of the source that holds it (`owners`), and positions in that part (`indices`)."""

    source: Source
    owners: Mapping[str, str]
    indices: Mapping[str, Indices]


def _lay_out(config: schema.Data, data_root: str | None, progress: Progress | None) -> _Layout:
    source = _open_source(config, Path(resolve_data_root(config.source, data_root)), show_progress=progress is not None)
    indices: dict[str, Indices] = {name: np.arange(len(part.labels)) for name, part in source.parts.items()}
    owners = {name: name for name in indices}
    # The test images first, so that another val_fraction does not move them.
    for name, fraction in (("test", config.test_fraction), ("val", config.val_fraction)):
        if name not in indices:
            train = indices["train"]
            labels = source.parts["train"].labels[train]
            kept, taken = carve(labels, fraction, seed=config.split_seed, purpose=name)
            indices["train"], indices[name], owners[name] = train[kept], train[taken], "train"
        if len(indices[name]) == 0:
            raise DataError(
                f"too few images: none is left for {name} when each class keeps one for training; "
                f"add images, or give {name} a folder of its own"
            )
    return _Layout(source, owners, indices)


def _open_source(config: schema.Data, data_root: Path, *, show_progress: bool) -> Source:
    root = _root(config, data_root)
    match config.source:
        case "digits":
            return digits()
        case "image_folder":
            return _open_folder(config, root)
        case name:
            return torchvision_dataset(name, root, show_progress=show_progress)


def _root(config: schema.Data, data_root: Path) -> Path:
    return data_root / Path(config.root or "").expanduser()


def _open_folder(config: schema.Data, root: Path) -> Source:
    return scan_image_folder(root, config.splits.model_dump() if config.splits else {})


def _preprocessing(source: Source, config: schema.Data) -> Preprocessing:
    channels, image_size = _network_input(config, source.channels, source.image_size)
    stored_size = config.stored_size or image_size
    if stored_size < image_size:
        raise ConfigError(f"must be at least image_size {image_size} (got {stored_size})", key="data.stored_size")
    mean, std = config.mean or (0.5,) * channels, config.std or (0.5,) * channels
    return Preprocessing(channels, image_size, stored_size, config.resize, mean, std)


def _network_input(config: schema.Data, channels: int, image_size: int) -> tuple[int, int]:
    """Channels and size: the configuration's, else those given, which are the source's."""
    return config.channels or (len(config.mean) if config.mean else channels), config.image_size or image_size


def _check_memory(num_images: int, preprocessing: Preprocessing) -> None:
    # Twice, because the splits are copied out of what was decoded.
    needed = 2 * num_images * preprocessing.stored_size**2 * preprocessing.channels
    # Physical memory, because what is "free" at the moment leaves out the file cache, which gives way.
    known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= getattr(os, "sysconf_names", {}).keys()
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else math.inf
    if needed > 0.8 * available:
        raise DataError(
            f"{num_images:,} images of {preprocessing.stored_size} px need {needed / 2**30:.1f} GiB of memory and this "
            f"machine has {available / 2**30:.1f}; lower data.stored_size or data.image_size"
        )


def _no_progress(items: Iterable[Any], _total: int, _what: str) -> Iterable[Any]:
    return items
