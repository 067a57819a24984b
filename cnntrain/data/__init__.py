"""Data preparation: from a configuration to three splits, one preprocessing and one class list."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from platformdirs import user_cache_path

from cnntrain.config import schema
from cnntrain.data import cache
from cnntrain.data.carve import Indices, carve
from cnntrain.data.datasets import FACTS, digits, torchvision_dataset
from cnntrain.data.image_folder import CHANNELS, IMAGE_SIZE, scan_image_folder
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.data.skipping import without_unreadable
from cnntrain.data.source import Part, Reporter, Silent, Source, Stored
from cnntrain.data.split import Split
from cnntrain.data.statistics import Counts, channel_statistics, count_levels
from cnntrain.data.storage import Storage, choose_storage
from cnntrain.errors import ConfigError, DataError

__all__ = [
    "Expected",
    "Layout",
    "Preprocessing",
    "Reporter",
    "Split",
    "Splits",
    "expect_data",
    "lay_out",
    "prepare_data",
    "prepare_split",
    "resolve_data_root",
]


CPU, SILENT = torch.device("cpu"), Silent()


@dataclass(frozen=True)
class Splits:
    """The three sets of images, which never share one.

    Attributes:
        held: Where the images are held, for people.
        notices: What the user should know about the data, one sentence each.
        skipped: By the source's part, the images that cannot be read and were left out, and why.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    held: str = ""
    notices: tuple[str, ...] = ()
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

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


def prepare_data(
    config: schema.Data,
    *,
    data_root: str | None = None,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
) -> Splits:
    """Finds the images, carves the splits, and holds the images ready for batches.

    Args:
        config: The `data` section.
        data_root: As `resolve_data_root` takes it.
        device: Where batches are wanted.
        reporter: Tells the user what takes its time.

    Raises:
        ConfigError: The configuration does not fit the data.
        DataError: Images are missing, unreadable or too few, or do not fit in memory.
        StorageError: Decoded images were to be kept on disk, and cannot be.
    """
    layout = lay_out(config, data_root, reporter)
    preprocessing = _preprocessing(layout.source, config)
    parts = layout.source.parts
    num_bytes = _num_bytes(parts.values(), preprocessing)
    storage = _storage(config, parts.values(), preprocessing, device)
    stored = {name: part.load(preprocessing, storage, reporter) for name, part in parts.items()}
    train, val, test = (
        _split(stored[owner], parts[owner], layout.indices[name], device)
        for name, owner in ((name, layout.owners[name]) for name in ("train", "val", "test"))
    )
    if config.mean is None:
        at_hand = storage.kind in ("device", "memory")
        counts = count_levels(train) if at_hand else _remembered_levels(train, preprocessing, reporter)
        mean, std = channel_statistics(counts)
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
    held = storage.describe(num_bytes)
    return Splits(train, val, test, layout.source.class_names, preprocessing, held, tuple(notices), layout.skipped)


def prepare_split(
    config: schema.Data,
    name: str,
    *,
    preprocessing: Preprocessing,
    data_root: str | None = None,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
) -> tuple[Split, tuple[str, ...], int]:
    """One split alone, prepared as a checkpoint says, the data's class names, and how many images were left out.

    Args:
        config: The `data` section.
        name: `train`, `val` or `test`.
        preprocessing: The checkpoint's.
        data_root: As `resolve_data_root` takes it.
        device: Where batches are wanted.
        reporter: As in `prepare_data`.

    Raises:
        DataError: Images are missing, unreadable or too few, or do not fit in memory.
        StorageError: Decoded images were to be kept on disk, and cannot be.
    """
    layout = lay_out(config, data_root, reporter, preprocessing)
    part = layout.source.parts[layout.owners[name]]
    storage = _storage(config, [part], preprocessing, device)
    stored = part.load(preprocessing, storage, reporter)
    num_skipped = len(layout.skipped.get(layout.owners[name], ()))
    return _split(stored, part, layout.indices[name], device), layout.source.class_names, num_skipped


def _num_bytes(parts: Iterable[Part], preprocessing: Preprocessing) -> int:
    return sum(len(part.labels) for part in parts) * preprocessing.bytes_per_image


def _storage(
    config: schema.Data, parts: Collection[Part], preprocessing: Preprocessing, device: torch.device
) -> Storage:
    return choose_storage(
        config.storage,
        _num_bytes(parts, preprocessing),
        device,
        from_files=config.source == "image_folder",
        is_cached=lambda: all(part.is_cached(preprocessing) for part in parts),
    )


def _split(stored: Stored, part: Part, chosen: Indices, device: torch.device) -> Split:
    targets = torch.from_numpy(part.labels[chosen]).to(device)
    return Split(stored.store, torch.from_numpy(chosen), targets, part.name_of, stored.digests[chosen])


def _remembered_levels(train: Split, preprocessing: Preprocessing, reporter: Reporter) -> Counts:
    """Counting levels reads the images, so it is done once for the same images, fitted in the same way."""

    def count() -> Counts:
        reporter.say("     reading training images for mean and std; data.mean and data.std make this unnecessary")
        return count_levels(train)

    fitting = f"{preprocessing.channels} {preprocessing.stored_size} {preprocessing.resize}"
    key = cache.key_of_text(f"levels {train.identity()['sha256']} {fitting}")
    return cache.remember(key, count, np.int64, (preprocessing.channels, 256), reporter.say)


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


class Layout(NamedTuple):
    """For each split the part of the source that holds it (`owners`), and positions in that part (`indices`).

    By part, the images that were left out, and why (`skipped`).
    """

    source: Source
    owners: Mapping[str, str]
    indices: Mapping[str, Indices]
    skipped: Mapping[str, Sequence[str]]


def lay_out(
    config: schema.Data, data_root: str | None, reporter: Reporter, preprocessing: Preprocessing | None = None
) -> Layout:
    """Finds the images and carves the splits, as `prepare_data` does; no image is held.

    Raises:
        DataError: Images are missing, or too few; or with `on_error: skip` too many cannot be read.
    """
    source = _open_source(config, Path(resolve_data_root(config.source, data_root)), show_progress=reporter.shows_bars)
    skipped: Mapping[str, Sequence[str]] = {}
    if config.on_error == "skip":
        fitting = preprocessing or _preprocessing(source, config)
        source, skipped = without_unreadable(source, fitting, config.max_skipped, reporter)
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
    return Layout(source, owners, indices, skipped)


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
    return scan_image_folder(root, config.splits.model_dump() if config.splits else {}, config.num_workers)


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
