"""Which examples there are, and which split each belongs to."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cnntrain.data.arrays import Groups, Indices
from cnntrain.data.carve import carve
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.resolving import resolve_preprocessing
from cnntrain.data.images.skipping import without_unreadable
from cnntrain.data.options import Data
from cnntrain.data.places import whereabouts
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Part, Source
from cnntrain.data.sources import SOURCES
from cnntrain.errors import DataError

SPLITS = ("train", "val", "test")


class Layout(NamedTuple):
    """For each split the part of the source that holds it (`owners`), and positions in that part (`indices`)."""

    owners: Mapping[str, str]
    indices: Mapping[str, Indices]


class Found(NamedTuple):
    """A source, and by part the examples that were left out of it, and why."""

    source: Source
    skipped: Mapping[str, Sequence[str]]


def find_source(
    options: Data, data_root: str | None, reporter: Reporter, preprocessing: Preprocessing | None = None
) -> Found:
    """Finds the examples; those that cannot be read are left out where `on_error` is `skip`.

    Args:
        options: The `data` section.
        data_root: As `resolve_data_root` takes it.
        reporter: Tells the user what takes its time.
        preprocessing: A checkpoint's; None takes the configuration's.

    Raises:
        DataError: Examples are missing; or with `on_error: skip` too many cannot be read.
    """
    source = SOURCES[options.source].open(whereabouts(options, data_root, reporter))
    if options.on_error != "skip":
        return Found(source, {})
    wanted = preprocessing or resolve_preprocessing(options, source.channels, source.image_size)
    return Found(*without_unreadable(source, wanted, options.max_skipped, reporter))


def lay_out(options: Data, source: Source, groups: Callable[[], Groups] | None = None) -> Layout:
    """Carves the splits that the source does not have out of its training images.

    Args:
        options: The `data` section.
        source: Its images.
        groups: Which of the training images are copies of each other, and stay together; asked for only where there is
            something to carve. None: nobody knows yet.

    Raises:
        DataError: There are too few images.
    """
    indices: dict[str, Indices] = {name: np.arange(len(part.labels)) for name, part in source.parts.items()}
    owners = {name: name for name in indices}
    fractions = carved_fractions(options, source)
    together = groups() if groups and any(fractions.values()) and options.group_copies != "none" else None
    for name, fraction in fractions.items():
        train = indices["train"]
        labels, some = source.parts["train"].labels[train], None if together is None else together[train]
        kept, taken = carve(labels, fraction, seed=options.split_seed, purpose=name, groups=some)
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


def carved_fractions(options: Data, source: Source) -> dict[str, float]:
    """Of the splits that the source does not have, the share; the test's first, so that `val_fraction` moves none."""
    fractions = {"test": options.test_fraction, "val": options.val_fraction}
    return {name: fraction for name, fraction in fractions.items() if name not in source.parts}
