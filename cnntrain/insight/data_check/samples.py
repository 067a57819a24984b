"""Which images there are, and which split each belongs to: as training has it, or as far as can be seen."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnntrain.data.class_names import class_warnings
from cnntrain.data.images.array_part import ArrayPart
from cnntrain.data.images.decode import is_image_name
from cnntrain.data.images.folder_part import FolderPart
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.data.layout import Layout, find_source, lay_out
from cnntrain.data.options import Data
from cnntrain.data.places import whereabouts
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Source
from cnntrain.data.sources import SOURCES
from cnntrain.data.split_folders import SPLIT_WORDS
from cnntrain.data.walking import is_hidden, list_folder, walk
from cnntrain.errors import DataError
from cnntrain.runtime.names import printable

UNUSED = "unused"  # the split of images that training would not get to see
NO_CLASS = "(no class)"


@dataclass(frozen=True, slots=True)
class Sample:
    """An image that was found.

    Attributes:
        name: Its path below the root, or `train/17`.
        class_name: Its folder's name, or its label's.
        split: `train`, `val`, `test` or `UNUSED`.
        content: Its file; of a set that comes as one array, its pixels: uint8 (H, W) or (H, W, 3).
    """

    name: str
    class_name: str
    split: str
    content: Path | Pixels


@dataclass(frozen=True)
class Inventory:
    """What there is.

    Attributes:
        place: The folder, or the data set's name.
        samples: All images in class folders; where training would refuse the layout, all images.
        class_names: Of the training images.
        origins: By split, where it comes from, in words.
        refusal: Why training would refuse this layout; empty where it would not.
        strays: By kind of `STRAYS`, paths of what lies between the images.
        source: As training finds it; None where training would refuse it.
        warnings: What may be wrong with the classes, one sentence each.
    """

    place: str
    samples: list[Sample]
    class_names: tuple[str, ...]
    origins: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    strays: Mapping[str, list[str]] = field(default_factory=dict)
    source: Source | None = None
    warnings: Sequence[str] = ()


def take_inventory(options: Data, data_root: str | None, reporter: Reporter) -> Inventory:
    """Finds the images and the split that training with this configuration gives each.

    Raises:
        ConfigError: The configuration contradicts itself.
        DataError: There is no such folder; or a data set is not there and cannot be downloaded.
    """
    source: Source | None = None
    layout: Layout | None = None
    refusal = ""
    is_folder, root = SOURCES[options.source].is_folder, whereabouts(options, data_root, reporter).root
    try:
        source = find_source(options, data_root, reporter).source
        layout = lay_out(options, source)
    except DataError as error:
        if not is_folder or not os.path.isdir(root):  # noqa: PTH112 (false without permission)
            raise
        refusal = str(error)
    if source and layout and not is_folder:
        samples, origins = _from_arrays(source, layout), _origins(options, source, layout)
        return Inventory(options.source, samples, source.class_names, origins, source=source)
    return _from_folders(options, root, source if layout else None, layout, refusal)


def _from_arrays(source: Source, layout: Layout) -> list[Sample]:
    class_names, samples = source.class_names, []
    for name, part in source.parts.items():
        assert isinstance(part, ArrayPart)
        splits = [UNUSED] * len(part.labels)
        for split, owner in layout.owners.items():
            for index in layout.indices[split] if owner == name else ():
                splits[index] = split
        name_of, labels = part.name_of, part.labels.tolist()
        samples += [
            Sample(name_of(index), class_names[label], splits[index], part.images[index])
            for index, label in enumerate(labels)
        ]
    return samples


def _from_folders(options: Data, root: Path, source: Source | None, layout: Layout | None, refusal: str) -> Inventory:
    split_of: dict[str, str] = {}
    folders = _folders_by_name(options, root)
    if source and layout:
        parts = {name: part for name, part in source.parts.items() if isinstance(part, FolderPart)}
        folders = {name: part.folder for name, part in parts.items()}
        for split, owner in layout.owners.items():
            part = parts[owner]
            split_of |= {f"{part.folder.as_posix()}/{part.files[index]}": split for index in layout.indices[split]}
    samples: list[Sample] = []
    strays: dict[str, list[str]] = {}
    for part_name, folder in folders.items():
        # What training refuses has no carved splits, and what it leaves out as unreadable is in none.
        others = UNUSED if layout else part_name
        samples += _walk(folder, root, split_of, others, strays, with_loose=layout is None)
    if root not in folders.values():
        used = {Path(os.path.relpath(folder, root)).parts[0] for folder in folders.values()}
        there = list_folder(root)
        for name in sorted({*there.folders, *there.files} - used):
            is_folder = name in there.folders
            kind = "hidden" if is_hidden(name) else "unused folders" if is_folder else "other files"
            strays.setdefault(kind, []).append(printable(f"{name}/" if is_folder else name))
    present = sorted({sample.class_name for sample in samples} - {NO_CLASS})
    class_names = tuple(map(printable, source.class_names)) if source else tuple(present)
    origins = _origins(options, source, layout) if source and layout else {}
    warnings = class_warnings(str(folders["train"]), parts["train"].files) if source and layout else []
    return Inventory(printable(str(root)), samples, class_names, origins, refusal, strays, source, warnings)


def _folders_by_name(options: Data, root: Path) -> dict[str, Path]:
    """The folders that seem to be meant, where training would refuse the layout."""
    named = {part: name for part, name in (options.splits.model_dump() if options.splits else {}).items() if name}
    present = {name.lower(): root / name for name in list_folder(root).folders}
    chosen = {part: root / name for part, name in named.items() if (root / name).is_dir()}
    for part, words in SPLIT_WORDS.items():
        match = [present[word] for word in words if word in present and present[word] not in chosen.values()]
        if part not in chosen and match:
            chosen[part] = match[0]
    return chosen or {"train": root}


def _walk(
    folder: Path,
    root: Path,
    split_of: Mapping[str, str],
    others: str,
    strays: dict[str, list[str]],
    *,
    with_loose: bool,
) -> list[Sample]:
    """The images below a folder of class folders; what else lies there goes to `strays`."""
    samples: list[Sample] = []
    above = "" if folder == root else Path(os.path.relpath(folder, root)).as_posix()
    for class_name, parent, subfolders, files in _tree(folder, strays):
        here = f"{above}{parent[len(folder.as_posix()) :]}/".lstrip("/")
        if class_name and not files and not subfolders:
            strays.setdefault("empty folders", []).append(printable(here))
        for name in subfolders:
            if is_hidden(name):
                strays.setdefault("hidden", []).append(printable(f"{here}{name}/"))
            elif class_name and os.path.islink(f"{parent}/{name}"):  # noqa: PTH114 (text, for speed)
                strays.setdefault("linked folders", []).append(printable(f"{here}{name}/"))
        for name in files:
            if kind := _stray(name, is_loose=not class_name, with_loose=with_loose):
                strays.setdefault(kind, []).append(printable(here + name))
                continue
            split = split_of.get(f"{parent}/{name}", others)
            label = printable(class_name) or NO_CLASS
            samples.append(Sample(printable(here + name), label, split, Path(parent, name)))
            if os.path.islink(f"{parent}/{name}"):  # noqa: PTH114
                strays.setdefault("linked images", []).append(samples[-1].name)
    return samples


def _tree(folder: Path, strays: dict[str, list[str]]) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """For the folder itself and all below it: the class, the folder, its folders and its files, in order.

    As in training, a class folder may be a link, and folders below it may not.
    """
    unreadable: list[str] = []
    try:
        top = list_folder(folder)
    except DataError as error:
        strays.setdefault("unreadable folders", []).append(str(error))
        return
    yield "", folder.as_posix(), top.folders, top.files
    for class_name in top.visible:
        for parent, subfolders, files in walk(folder / class_name, unreadable):
            yield class_name, Path(parent).as_posix(), subfolders, files
    if unreadable:
        strays.setdefault("unreadable folders", []).extend(map(printable, unreadable))


def _stray(name: str, *, is_loose: bool, with_loose: bool) -> str:
    """Which kind of stray a file is; empty for an image where images belong."""
    if is_hidden(name):
        return "hidden"
    if not is_image_name(name):
        return "other files"
    return "loose images" if is_loose and not with_loose else ""


def _origins(options: Data, source: Source, layout: Layout) -> dict[str, str]:
    """Where each split comes from, in words."""
    carved = [name for name in ("test", "val") if layout.owners[name] == "train" and name != "train"]
    fractions = {"val": options.val_fraction, "test": options.test_fraction}
    words: dict[str, str] = {}
    for split in ("train", "val", "test"):
        owner = layout.owners[split]
        part = source.parts[owner]
        name = f"{part.folder.name}/" if isinstance(part, FolderPart) else part.name_of(0).split("/")[0]
        if split in carved:
            rest = " of what is left after test" if split == "val" and "test" in carved else ""
            share = f"{100 * fractions[split]:g} % of each class{rest}, data.split_seed {options.split_seed}"
            words[split] = f"carved from {name}: {share}" if fractions[split] else f"none (data.{split}_fraction: 0)"
        else:
            words[split] = name + (", what is left" if split == "train" and carved else "")
    return words
