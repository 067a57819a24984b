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
from cnntrain.data.carve import Indices
from cnntrain.data.copies import Groups, exact_copies, joined, near_copies
from cnntrain.data.copy_notices import copy_notices, shared
from cnntrain.data.cropping import cut_notices
from cnntrain.data.datasets import FACTS
from cnntrain.data.image_folder import CHANNELS, IMAGE_SIZE
from cnntrain.data.layout import (
    SPLITS,
    Layout,
    carved_fractions,
    find_source,
    folder_of,
    lay_out,
    network_input,
    open_folder,
    parts_in_order,
    preprocessing_for,
)
from cnntrain.data.preprocessing import Pixels, Preprocessing
from cnntrain.data.reporter import Reporter, Silent
from cnntrain.data.source import Part, Source, Stored
from cnntrain.data.split import Split
from cnntrain.data.statistics import Counts, channel_statistics, count_levels
from cnntrain.data.storage import Storage, choose_storage
from cnntrain.names import quoted

__all__ = [
    "Expected",
    "Layout",
    "Preprocessing",
    "Reporter",
    "Split",
    "Splits",
    "carved_fractions",
    "expect_data",
    "find_source",
    "lay_out",
    "parts_in_order",
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
        same_pixels_in_train: How many images of val and of test have a copy among the training images, however stored.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    held: str = ""
    notices: tuple[str, ...] = ()
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    same_pixels_in_train: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def identity(self) -> dict[str, dict[str, Any]]:
        """How many images each split has and their hash; of val and test, how many are copies of training images.

        `also_in_train` counts files that are the same byte for byte, `same_pixels_in_train` all with the same pixels.
        """
        found: dict[str, dict[str, Any]] = {"train": self.train.identity()}
        for name, split in (("val", self.val), ("test", self.test)):
            copies = len(split.copies_of(self.train))
            same = self.same_pixels_in_train.get(name, copies)
            found[name] = {**split.identity(), "also_in_train": copies, "same_pixels_in_train": same}
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
    source, skipped = find_source(config, resolve_data_root(config.source, data_root), reporter)
    lay_out(config, source)  # too few images are told before the rest are decoded
    preprocessing, parts = preprocessing_for(source, config), source.parts
    storage = _storage(config, parts.values(), preprocessing, device)
    stored = {name: part.load(preprocessing, storage, reporter) for name, part in parts.items()}
    near = _near_copies(config, source, reporter)
    layout = lay_out(config, source, lambda: _copies(stored["train"].pixel_digests, near))
    splits = {
        name: _split(stored[layout.owners[name]], parts[layout.owners[name]], layout.indices[name], device)
        for name in SPLITS
    }
    if config.mean is None:
        at_hand = storage.kind in ("device", "memory")
        train = splits["train"]
        counts = count_levels(train) if at_hand else _remembered_levels(train, preprocessing, reporter)
        mean, std = channel_statistics(counts)
        preprocessing = replace(preprocessing, mean=mean, std=std)
    groups = _groups_of_splits(stored, layout, near)
    return Splits(
        **splits,
        class_names=source.class_names,
        preprocessing=preprocessing,
        held=storage.describe(_num_bytes(parts.values(), preprocessing)),
        notices=(
            *source.notices,
            *_missing_classes(splits, layout, source.class_names),
            *copy_notices(splits, groups, kind=config.group_copies),
            *cut_notices(parts["train"], preprocessing.resize),
        ),
        skipped=skipped,
        same_pixels_in_train={name: len(shared(groups, name, "train")) for name in ("val", "test")},
    )


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
    source, skipped = find_source(config, resolve_data_root(config.source, data_root), reporter, preprocessing)
    owner = name if name in source.parts else "train"
    part = source.parts[owner]
    storage = _storage(config, [part], preprocessing, device)
    stored = part.load(preprocessing, storage, reporter)
    if owner == "train":
        layout = lay_out(config, source, lambda: _copies(stored.pixel_digests, _near_copies(config, source, reporter)))
        indices = layout.indices[name]
    else:
        indices = np.arange(len(part.labels))
    return _split(stored, part, indices, device), source.class_names, len(skipped.get(owner, ()))


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


def _near_copies(config: schema.Data, source: Source, reporter: Reporter) -> Groups | None:
    """Which images of all parts look nearly the same; None where nearly the same is not enough."""
    if config.group_copies != "near":
        return None
    return near_copies(
        np.concatenate([part.thumbnails(reporter) for part in parts_in_order(source).values()]), reporter
    )


def _copies(digests: Pixels, near: Groups | None) -> Groups:
    """Which images belong together: the first ones by the digests of their pixels, all by how they look."""
    exact = exact_copies(digests)
    return exact if near is None else joined(near, exact)


def _groups_of_splits(stored: Mapping[str, Stored], layout: Layout, near: Groups | None) -> dict[str, Groups]:
    """Which images of all splits are copies of each other, by split."""
    digests = {name: stored[name].pixel_digests for name in SPLITS if name in stored}  # in the order of `near`
    groups = _copies(np.concatenate(list(digests.values())), near)
    ends = np.cumsum([len(some) for some in digests.values()])[:-1]
    of_part = dict(zip(digests, np.split(groups, ends), strict=True))
    return {name: of_part[layout.owners[name]][layout.indices[name]] for name in SPLITS}


def _missing_classes(splits: Mapping[str, Split], layout: Layout, class_names: tuple[str, ...]) -> list[str]:
    notices = []
    for name in ("val", "test"):
        missing = [label for index, label in enumerate(class_names) if index not in splits[name].targets]
        if missing and len(splits[name]) and layout.owners[name] == "train":
            notices.append(f"too few images to carve any for {name} of: {quoted(missing)}")
    return notices


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
        return Expected(*network_input(config, facts.channels, facts.image_size), num_classes or facts.num_classes)
    root = folder_of(config, resolve_data_root(config.source, data_root))
    if num_classes is None and root.is_dir():
        num_classes = len(open_folder(config, root).class_names)
    return Expected(*network_input(config, CHANNELS, IMAGE_SIZE), num_classes)
