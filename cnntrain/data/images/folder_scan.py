"""One's own images: `train/<class>/*`, with optional `val/` and `test/`, or just `<class>/*`."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnntrain.data.class_names import alike, check_names, class_warnings
from cnntrain.data.images.decode import is_image_name
from cnntrain.data.images.folder_part import FolderPart
from cnntrain.data.images.formats import SUFFIXES
from cnntrain.data.split_folders import choose_folders
from cnntrain.data.walking import Listing, is_hidden, list_folder, walk
from cnntrain.errors import DataError
from cnntrain.runtime.names import quoted


class Scan(NamedTuple):
    """What a folder of images holds: the names of its classes, its parts, and what the user should know."""

    class_names: tuple[str, ...]
    parts: Mapping[str, FolderPart]
    notices: tuple[str, ...]


class _Class(NamedTuple):
    """What the folder of a class holds: images, other files, and lines about folders that cannot be read."""

    images: list[str]
    others: list[str]
    unreadable: list[str]

    @property
    def is_empty(self) -> bool:
        return not (self.images or self.others or self.unreadable)


def scan_image_folder(
    root: Path, folders: Mapping[str, str | None], num_workers: int | None = None, on_error: str = "auto"
) -> Scan:
    """Finds the images below `root`.

    Args:
        root: Holds `train/`, perhaps `val/` and `test/`, or the class folders themselves.
        folders: Which folder plays `train`, `val` and `test`, where the user said so.
        num_workers: Threads that decode; None takes one for each core.
        on_error: As `data.on_error`: `stop` refuses empty class folders, which are left out otherwise; `skip` counts
            folders that cannot be read, which are refused otherwise.

    Raises:
        DataError: A folder is missing, empty or unreadable, there are fewer than two classes, or the parts disagree
            about the classes.
    """
    if not os.path.isdir(root):  # noqa: PTH112 (which is false, instead of an error, where permission is missing)
        raise DataError(
            f"{root}: no such folder. It is data.root, below --data-root or CNNTRAIN_DATA where one of them is set, "
            f"else below the working folder (--set data.root=FOLDER); it holds train/<class>/*.jpg or <class>/*.jpg"
        )
    notices: list[str] = []
    folders_of = choose_folders(root, {part: name for part, name in folders.items() if name}, notices)
    listings = {part: list_folder(folder) for part, folder in folders_of.items()}
    contents = {
        part: {name: _look_into(folder, name) for name in listings[part].visible} for part, folder in folders_of.items()
    }
    class_names = _class_names(folders_of["train"], listings["train"], contents["train"], on_error, notices)
    for part, folder in folders_of.items():
        _check_classes(folder, class_names, contents[part], contents["train"], on_error, notices)
        _note_left_out(folder, listings[part], contents[part], notices)
    if on_error != "skip":
        _refuse_unreadable([line for part in contents.values() for known in part.values() for line in known.unreadable])
    parts = {part: _part(folder, class_names, contents[part], num_workers) for part, folder in folders_of.items()}
    notices += class_warnings(str(folders_of["train"]), parts["train"].files)
    return Scan(class_names, parts, tuple(notices))


def _look_into(folder: Path, class_name: str) -> _Class:
    """What a class folder holds, at any depth, as paths below `folder`, sorted."""
    images: list[str] = []
    others: list[str] = []
    unreadable: list[str] = []
    start = len(f"{folder}/")
    for parent, subfolders, files in walk(f"{folder}/{class_name}", unreadable):
        inside = Path(parent[start:]).as_posix()
        others += [f"{inside}/{name} (a link)" for name in subfolders if os.path.islink(f"{parent}/{name}")]  # noqa: PTH114
        for file in files:
            if not is_hidden(file):
                (images if is_image_name(file) else others).append(f"{inside}/{file}")
    return _Class(sorted(images), sorted(others), unreadable)


def _class_names(
    train: Path, listing: Listing, contents: Mapping[str, _Class], on_error: str, notices: list[str]
) -> tuple[str, ...]:
    if not contents and any(map(is_image_name, listing.files)):
        raise DataError(f"{train} holds images but no class folders; put those of each class in a folder of its own")
    if not contents:
        raise DataError(f"{train} is empty: it should hold a folder of images for each class, <class>/*.jpg")
    check_names(train, list(contents))
    if not any(known.images or known.unreadable for known in contents.values()):
        raise DataError(
            f"{train} is empty: its class folders hold no images (names that end in {', '.join(sorted(SUFFIXES))})"
        )
    if filled := [
        name for name, known in contents.items() if known.others and not known.images and not known.unreadable
    ]:
        example = contents[filled[0]].others[0]
        raise DataError(
            f'no images of {quoted(filled)} in {train}, only other files such as "{example}"; add images (names that '
            f"end in {', '.join(sorted(SUFFIXES))}), or remove the folder"
        )
    empty = [name for name, known in contents.items() if known.is_empty]
    if empty and on_error == "stop":
        raise DataError(
            f"no images of {quoted(empty)} in {train}; add some, remove the folder, or leave data.on_error: stop out"
        )
    names = tuple(name for name in contents if name not in empty)
    if len(names) == 1:
        inner = list_folder(train / names[0]).visible
        hint = (
            f'; if its folders {quoted(inner)} are the classes, set data.root to "{train / names[0]}"' if inner else ""
        )
        others = f", besides the empty folders {quoted(empty)}" if empty else ""
        raise DataError(f"{train} has one class only ({quoted(names)}{others}); a classifier needs at least two{hint}")
    if empty:
        notices.append(f"left out of {train}, being empty: {quoted(empty)}; the network will not know these classes")
    return names


def _check_classes(
    folder: Path,
    class_names: Sequence[str],
    contents: Mapping[str, _Class],
    train: Mapping[str, _Class],
    on_error: str,
    notices: list[str],
) -> None:
    """That a part has no classes but those of training, and images at all."""
    check_names(folder, list(contents))
    foreign = [
        name for name in contents if name not in class_names and not (contents[name].is_empty and on_error != "stop")
    ]
    if foreign and foreign[0] in train:
        raise DataError(
            f"{folder} has images of {quoted(foreign)}, of which the training folder has none; add some there"
        )
    if foreign:
        same = [name for name in class_names if alike(name) == alike(foreign[0])]
        close = difflib.get_close_matches(foreign[0], class_names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        hint = f'; "{same[0]}" differs only in case, in spaces or in how letters are encoded' if same else hint
        raise DataError(
            f"{folder} has classes that the training folder lacks: {quoted(foreign)}{hint} "
            f"(known: {quoted(class_names)}). Rename or remove these folders"
        )
    if not any(known.images or known.unreadable for known in contents.values()):
        raise DataError(
            f"{folder} is empty: its class folders hold no images (names that end in {', '.join(sorted(SUFFIXES))})"
        )
    without = [name for name in class_names if name not in contents or not contents[name].images]
    if without and contents is not train:
        notices.append(f"{folder} has no images of {quoted(without)}")


def _note_left_out(folder: Path, listing: Listing, contents: Mapping[str, _Class], notices: list[str]) -> None:
    loose = [name for name in listing.files if not is_hidden(name)]
    strangers = [name for name in loose if not is_image_name(name)]
    strangers += [other for known in contents.values() for other in known.others]
    if strangers:
        notices.append(f"left out of {folder}, being no images: {quoted(strangers)}")
    if pictures := [name for name in loose if is_image_name(name)]:
        notices.append(f"left out of {folder}, being in no class folder: {quoted(pictures)}")
    if hidden := [name for name in listing.folders if is_hidden(name)]:
        notices.append(f"left out of {folder}, being hidden: {quoted(hidden)}")


def _refuse_unreadable(lines: Sequence[str]) -> None:
    if lines:
        what = "1 folder" if len(lines) == 1 else f"{len(lines):,} folders"
        more = [f"... and {len(lines) - 5:,} more"] if len(lines) > 5 else []
        raise DataError(
            f"{what} of images cannot be read; make them readable (chmod -R u+rX), or remove them, "
            f"or leave them out with data.on_error: skip:",
            more=[*lines[:5], *more],
        )


def _part(
    folder: Path, class_names: Sequence[str], contents: Mapping[str, _Class], num_workers: int | None
) -> FolderPart:
    present = [(label, contents[name]) for label, name in enumerate(class_names) if name in contents]
    files = tuple(file for _, known in present for file in known.images)
    labels = np.repeat([label for label, _ in present], [len(known.images) for _, known in present]).astype(np.int64)
    unreadable = tuple(line for _, known in present for line in known.unreadable)
    return FolderPart(folder, files, labels, num_workers, unreadable_folders=unreadable)
