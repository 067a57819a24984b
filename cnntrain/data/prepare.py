"""From options to examples that are ready for batches: all three splits for training, or one for a checkpoint."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from cnntrain.data.arrays import Digests, Groups, Indices
from cnntrain.data.copies import exact_copies, joined
from cnntrain.data.copy_notices import copy_notices, shared
from cnntrain.data.images.cropping import cut_notices
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.resolving import resolve_preprocessing
from cnntrain.data.images.similar import near_copies
from cnntrain.data.images.statistics import with_statistics
from cnntrain.data.layout import SPLITS, Layout, find_source, lay_out, parts_in_order
from cnntrain.data.options import Data
from cnntrain.data.reporter import SILENT, Reporter
from cnntrain.data.source import Part, Source, Stored
from cnntrain.data.sources import SOURCES
from cnntrain.data.split import Split
from cnntrain.data.splits import Splits
from cnntrain.data.storage import Storage, choose_storage
from cnntrain.runtime.names import quoted

CPU = torch.device("cpu")


def prepare_data(
    options: Data, *, data_root: str | None = None, device: torch.device = CPU, reporter: Reporter = SILENT
) -> Splits:
    """Finds the examples, carves the splits, and holds all ready for batches.

    Args:
        options: The `data` section.
        data_root: As `resolve_data_root` takes it.
        device: Where batches are wanted.
        reporter: Tells the user what takes its time.

    Raises:
        ConfigError: The options do not fit the data.
        DataError: Examples are missing, unreadable or too few, or do not fit in memory.
        StorageError: Decoded images were to be kept on disk, and cannot be.
    """
    source, skipped = find_source(options, data_root, reporter)
    lay_out(options, source)  # too few are told before the rest are decoded
    preprocessing = resolve_preprocessing(options, source.channels, source.image_size)
    storage = _storage(options, source.parts.values(), preprocessing, device)
    stored = {name: part.load(preprocessing, storage, reporter) for name, part in source.parts.items()}
    near = _near_copies(options, source, reporter)
    layout = lay_out(options, source, lambda: _copies(stored["train"].content_digests, near))
    splits = {name: _split(stored, source, layout.owners[name], layout.indices[name], device) for name in SPLITS}
    if options.mean is None:
        preprocessing = with_statistics(preprocessing, splits["train"], reporter, is_at_hand=storage.is_at_hand)
    groups = _groups_of_splits(stored, layout, near)
    notices = [*source.notices, *_missing_classes(splits, layout, source.class_names)]
    notices += copy_notices(splits, groups, kind=options.group_copies)
    notices += cut_notices(source.parts["train"], preprocessing.resize)
    return Splits(
        **splits,
        class_names=source.class_names,
        preprocessing=preprocessing,
        where_held=storage.describe(_num_bytes(source.parts.values(), preprocessing)),
        notices=tuple(notices),
        skipped=skipped,
        same_pixels_in_train={name: len(shared(groups, name, "train")) for name in ("val", "test")},
    )


class PreparedSplit(NamedTuple):
    """One split, the data's class names, and how many examples could not be read and were left out."""

    split: Split
    class_names: tuple[str, ...]
    num_skipped: int


def prepare_split(
    options: Data,
    name: str,
    *,
    preprocessing: Preprocessing,
    data_root: str | None = None,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
) -> PreparedSplit:
    """One split alone, prepared as a checkpoint says.

    Args:
        options: The `data` section.
        name: `train`, `val` or `test`.
        preprocessing: The checkpoint's.
        data_root: As `resolve_data_root` takes it.
        device: Where batches are wanted.
        reporter: As in `prepare_data`.

    Raises:
        DataError: Examples are missing, unreadable or too few, or do not fit in memory.
        StorageError: Decoded images were to be kept on disk, and cannot be.
    """
    source, skipped = find_source(options, data_root, reporter, preprocessing)
    owner = name if name in source.parts else "train"
    part = source.parts[owner]
    stored = part.load(preprocessing, _storage(options, [part], preprocessing, device), reporter)
    indices = np.arange(len(part.labels))
    if owner == "train":
        near = partial(_near_copies, options, source, reporter)
        indices = lay_out(options, source, lambda: _copies(stored.content_digests, near())).indices[name]
    split = _split({owner: stored}, source, owner, indices, device)
    return PreparedSplit(split, source.class_names, len(skipped.get(owner, ())))


def _num_bytes(parts: Collection[Part], preprocessing: Preprocessing) -> int:
    return sum(len(part.labels) for part in parts) * preprocessing.bytes_per_item


def _storage(options: Data, parts: Collection[Part], preprocessing: Preprocessing, device: torch.device) -> Storage:
    return choose_storage(
        options.storage,
        _num_bytes(parts, preprocessing),
        device,
        from_files=SOURCES[options.source].is_folder,
        is_cached=lambda: all(part.is_cached(preprocessing) for part in parts),
    )


def _split(stored: Mapping[str, Stored], source: Source, owner: str, chosen: Indices, device: torch.device) -> Split:
    """The chosen examples of a part of the source."""
    part, examples = source.parts[owner], stored[owner]
    targets = torch.from_numpy(part.labels[chosen]).to(device)
    return Split(examples.store, torch.from_numpy(chosen), targets, part.name_of, examples.digests[chosen])


def _near_copies(options: Data, source: Source, reporter: Reporter) -> Groups | None:
    """Which examples of all parts look nearly the same; None where nearly the same is not enough."""
    if options.group_copies != "near":
        return None
    thumbnails = [part.thumbnails(reporter) for part in parts_in_order(source).values()]
    return near_copies(np.concatenate(thumbnails), reporter)


def _copies(digests: Digests, near: Groups | None) -> Groups:
    """Which examples belong together: the first ones by the digests of their content, all by how they look."""
    exact = exact_copies(digests)
    return exact if near is None else joined(near, exact)


def _groups_of_splits(stored: Mapping[str, Stored], layout: Layout, near: Groups | None) -> dict[str, Groups]:
    """Which examples of all splits are copies of each other, by split."""
    digests = {name: stored[name].content_digests for name in SPLITS if name in stored}  # in the order of `near`
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
