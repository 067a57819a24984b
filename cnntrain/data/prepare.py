"""From options to examples that are ready for batches: all three splits for training, or one for a checkpoint."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from cnntrain.data.agreement import check_same_data
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
from cnntrain.data.sharing import Memory, made_here
from cnntrain.data.source import Part, Source, Stored
from cnntrain.data.sources import SOURCES
from cnntrain.data.split import Split, brought_to
from cnntrain.data.splits import Splits
from cnntrain.data.storage import Storage, choose_storage
from cnntrain.runtime.names import quoted
from cnntrain.runtime.processes import ALONE, Processes

CPU = torch.device("cpu")


def prepare_data(
    options: Data,
    *,
    data_root: str | None = None,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
    processes: Processes = ALONE,
) -> Splits:
    """Finds the examples, carves the splits, and holds all ready for batches.

    Of several processes, the first one on each machine does so for all there, and the first of all takes statistics.

    Args:
        options: The `data` section.
        data_root: As `resolve_data_root` takes it.
        device: Where batches are wanted.
        reporter: Tells the user what takes its time.
        processes: That want the data, all of them now.

    Raises:
        ConfigError: The options do not fit the data.
        DataError: Examples are missing, unreadable or too few, or do not fit in memory, or are not the same on all
            machines.
        DeviceError: The processes of a machine cannot share its memory.
        StorageError: Decoded images were to be kept on disk, and cannot be.
    """
    _download(options, data_root, reporter, processes)
    splits, kind = made_here(partial(_prepare, options, data_root, device, reporter), processes, reporter)
    storage = Storage(kind, device)
    splits = splits.on(device, home=storage.home, num_processes=processes.local_count)
    check_same_data(splits.class_names, {name: getattr(splits, name) for name in SPLITS}, processes)
    if options.mean is not None:
        return splits
    count = partial(with_statistics, splits.preprocessing, splits.train, reporter, is_at_hand=storage.is_at_hand)
    return replace(splits, preprocessing=processes.first(count))


def _prepare(
    options: Data, data_root: str | None, device: torch.device, reporter: Reporter, memory: Memory
) -> tuple[Splits, str]:
    """The splits on the host, without statistics, and the kind of storage chosen for that device."""
    source, skipped = find_source(options, data_root, reporter)
    lay_out(options, source)  # too few are told before the rest are decoded
    preprocessing = resolve_preprocessing(options, source.channels, source.image_size)
    storage = _storage(options, source.parts.values(), preprocessing, device, memory)
    stored = {name: part.load(preprocessing, storage, reporter) for name, part in source.parts.items()}
    near = _near_copies(options, source, reporter)
    layout = lay_out(options, source, lambda: _copies(stored["train"].content_digests, near))
    splits = {name: _split(stored, source, layout.owners[name], layout.indices[name]) for name in SPLITS}
    groups = _groups_of_splits(stored, layout, near)
    notices = [*source.notices, *_missing_classes(splits, layout, source.class_names)]
    notices += copy_notices(splits, groups, kind=options.group_copies)
    notices += cut_notices(source.parts["train"], preprocessing.resize)
    prepared = Splits(
        **splits,
        class_names=source.class_names,
        preprocessing=preprocessing,
        where_held=storage.describe(_num_bytes(source.parts.values(), preprocessing)),
        notices=tuple(notices),
        skipped=skipped,
        same_pixels_in_train={name: len(shared(groups, name, "train")) for name in ("val", "test")},
    )
    return prepared, storage.kind


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
    processes: Processes = ALONE,
) -> PreparedSplit:
    """One split alone, prepared as a checkpoint says.

    Args:
        options: The `data` section.
        name: `train`, `val` or `test`.
        preprocessing: The checkpoint's.
        data_root: As `resolve_data_root` takes it.
        device: Where batches are wanted.
        reporter: As in `prepare_data`.
        processes: Likewise.

    Raises:
        DataError: Examples are missing, unreadable or too few, or do not fit in memory, or are not the same on all
            machines.
        DeviceError: The processes of a machine cannot share its memory.
        StorageError: Decoded images were to be kept on disk, and cannot be.
    """
    _download(options, data_root, reporter, processes)

    def prepare(memory: Memory) -> tuple[PreparedSplit, str]:
        source, skipped = find_source(options, data_root, reporter, preprocessing)
        owner = name if name in source.parts else "train"
        part = source.parts[owner]
        storage = _storage(options, [part], preprocessing, device, memory)
        stored = part.load(preprocessing, storage, reporter)
        indices = np.arange(len(part.labels))
        if owner == "train":
            near = partial(_near_copies, options, source, reporter)
            indices = lay_out(options, source, lambda: _copies(stored.content_digests, near())).indices[name]
        split = _split({owner: stored}, source, owner, indices)
        return PreparedSplit(split, source.class_names, len(skipped.get(owner, ()))), storage.kind

    prepared, kind = made_here(prepare, processes, reporter)
    home, here = Storage(kind, device).home, processes.local_count
    [split] = brought_to([prepared.split], device, home=home, num_processes=here)
    check_same_data(prepared.class_names, {name: split}, processes)
    return prepared._replace(split=split)


def _download(options: Data, data_root: str | None, reporter: Reporter, processes: Processes) -> None:
    """What is downloaded is there before several machines look for it, which may share a disk."""
    if not SOURCES[options.source].is_folder and processes.local_count < processes.count:
        processes.first(lambda: bool(find_source(options, data_root, reporter)))


def _num_bytes(parts: Collection[Part], preprocessing: Preprocessing) -> int:
    return sum(len(part.labels) for part in parts) * preprocessing.bytes_per_item


def _storage(
    options: Data, parts: Collection[Part], preprocessing: Preprocessing, device: torch.device, memory: Memory
) -> Storage:
    storage = choose_storage(
        options.storage,
        _num_bytes(parts, preprocessing),
        device,
        from_files=SOURCES[options.source].is_folder,
        is_cached=lambda: all(part.is_cached(preprocessing) for part in parts),
    )
    return replace(storage, memory=memory)


def _split(stored: Mapping[str, Stored], source: Source, owner: str, chosen: Indices) -> Split:
    """The chosen examples of a part of the source."""
    part, examples = source.parts[owner], stored[owner]
    targets = torch.from_numpy(part.labels[chosen])
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
