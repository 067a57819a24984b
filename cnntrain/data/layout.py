"""Which images there are, and which split each belongs to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnntrain.config import schema
from cnntrain.data.carve import Indices, carve
from cnntrain.data.copies import Groups
from cnntrain.data.datasets import digits, torchvision_dataset
from cnntrain.data.folder_part import FolderPart
from cnntrain.data.image_folder import scan_image_folder
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.skipping import without_unreadable
from cnntrain.data.source import Part, Source
from cnntrain.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")


class Layout(NamedTuple):
    """For each split the part of the source that holds it (`owners`), and positions in that part (`indices`)."""

    owners: Mapping[str, str]
    indices: Mapping[str, Indices]


class Found(NamedTuple):
    """A source, and by part the images that were left out of it, and why."""

    source: Source
    skipped: Mapping[str, Sequence[str]]


def find_source(
    config: schema.Data, data_root: str, reporter: Reporter, preprocessing: Preprocessing | None = None
) -> Found:
    """Finds the images; those that cannot be read are left out where `on_error` is `skip`.

    Args:
        config: The `data` section.
        data_root: From `resolve_data_root`.
        reporter: Tells the user what takes its time.
        preprocessing: A checkpoint's; None takes the configuration's.

    Raises:
        DataError: Images are missing; or with `on_error: skip` too many cannot be read.
    """
    root = folder_of(config, data_root)
    match config.source:
        case "digits":
            source = digits()
        case "image_folder":
            source = _told_of_formats(open_folder(config, root), reporter)
        case name:
            source = torchvision_dataset(name, root, show_progress=reporter.shows_bars)
    if config.on_error != "skip":
        return Found(source, {})
    fitting = preprocessing or preprocessing_for(source, config)
    return Found(*without_unreadable(source, fitting, config.max_skipped, reporter))


def _told_of_formats(source: Source, reporter: Reporter) -> Source:
    """The same, whose parts know whether all images are JPEGs."""
    parts = {name: part for name, part in source.parts.items() if isinstance(part, FolderPart)}
    is_mixed = not all(part.is_all_jpeg(reporter) for part in parts.values())
    return replace(source, parts={name: replace(part, is_mixed=is_mixed) for name, part in parts.items()})


def lay_out(config: schema.Data, source: Source, groups: Callable[[], Groups] | None = None) -> Layout:
    """Carves the splits that the source does not have out of its training images.

    Args:
        config: The `data` section.
        source: Its images.
        groups: Which of the training images are copies of each other, and stay together; asked for only where there is
            something to carve. None: nobody knows yet.

    Raises:
        DataError: There are too few images.
    """
    indices: dict[str, Indices] = {name: np.arange(len(part.labels)) for name, part in source.parts.items()}
    owners = {name: name for name in indices}
    fractions = carved_fractions(config, source)
    together = groups() if groups and any(fractions.values()) and config.group_copies != "none" else None
    for name, fraction in fractions.items():
        train = indices["train"]
        labels, some = source.parts["train"].labels[train], None if together is None else together[train]
        kept, taken = carve(labels, fraction, seed=config.split_seed, purpose=name, groups=some)
        indices["train"], indices[name], owners[name] = train[kept], train[taken], "train"
        if fraction and len(taken) == 0:
            copies = " and copies stay together" if some is not None else ""
            raise DataError(
                f"too few images: none is left for {name} when each class keeps one for training{copies}; add images, "
                f"give {name} a folder of its own, or do without (data.{name}_fraction: 0)"
            )
    return Layout(owners, indices)


def parts_in_order(source: Source) -> dict[str, Part]:
    """The parts of a source, train first, whatever order they were named in."""
    return {name: source.parts[name] for name in SPLITS if name in source.parts}


def carved_fractions(config: schema.Data, source: Source) -> dict[str, float]:
    """Of the splits that the source does not have, the share; the test's first, so that `val_fraction` moves none."""
    fractions = {"test": config.test_fraction, "val": config.val_fraction}
    return {name: fraction for name, fraction in fractions.items() if name not in source.parts}


def folder_of(config: schema.Data, data_root: str) -> Path:
    """Where the images are."""
    return Path(data_root) / Path(config.root or "").expanduser()


def open_folder(config: schema.Data, root: Path) -> Source:
    """Looks through a folder of images.

    Raises:
        DataError: It is not there, or not as it should be.
    """
    splits = config.splits.model_dump() if config.splits else {}
    return scan_image_folder(root, splits, config.num_workers, config.on_error)


def preprocessing_for(source: Source, config: schema.Data) -> Preprocessing:
    """What the configuration says of images, and what follows from the source where it says nothing.

    Raises:
        ConfigError: Images are stored smaller than they are wanted.
    """
    channels, image_size = network_input(config, source.channels, source.image_size)
    stored_size = config.stored_size or image_size
    if stored_size < image_size:
        raise ConfigError(f"must be at least image_size {image_size} (got {stored_size})", key="data.stored_size")
    mean, std = config.mean or (0.5,) * channels, config.std or (0.5,) * channels
    return Preprocessing(channels, image_size, stored_size, config.resize, mean, std)


def network_input(config: schema.Data, channels: int, image_size: int) -> tuple[int, int]:
    """Channels and size: the configuration's, else those given, which are the source's."""
    return config.channels or (len(config.mean) if config.mean else channels), config.image_size or image_size
