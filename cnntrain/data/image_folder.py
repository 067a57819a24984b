"""One's own images: `train/<class>/*`, with optional `val/` and `test/`, or just `<class>/*`."""

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from cnntrain.config import schema
from cnntrain.data.decode import SUFFIXES, is_hidden, is_image_name
from cnntrain.data.folder_part import FolderPart
from cnntrain.data.source import Source
from cnntrain.errors import DataError

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


CHANNELS, IMAGE_SIZE = 3, 224  # where the configuration says nothing else


def scan_image_folder(root: Path, folders: Mapping[str, str | None], num_workers: int | None = None) -> Source:
    """Finds the images below `root`.

    Args:
        root: Holds `train/`, perhaps `val/` and `test/`, or the class folders themselves.
        folders: Which folder plays `train`, `val` and `test`, where the user said so.
        num_workers: Threads that decode; None takes one for each core.

    Raises:
        DataError: A folder is missing or empty, there are fewer than two classes, or the parts disagree
            about the classes.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. It is data.root, below --data-root or CNNTRAIN_DATA where one of them is set, "
            f"else below the working folder (--set data.root=FOLDER); it holds train/<class>/*.jpg or <class>/*.jpg"
        )
    notices: list[str] = []
    folders_of = _choose_folders(root, {part: name for part, name in folders.items() if name}, notices)
    class_names = _class_names(folders_of["train"])
    parts = {part: _scan(folder, class_names, notices, num_workers) for part, folder in folders_of.items()}
    for part, found in parts.items():
        missing = [name for label, name in enumerate(class_names) if label not in found.labels]
        if missing and part == "train":
            raise DataError(f"no images of {_listed(missing)} in {found.folder}; add some or remove the folder")
        if missing:
            notices.append(f"{found.folder} has no images of {_listed(missing)}")
    return Source(class_names, parts, channels=CHANNELS, image_size=IMAGE_SIZE, notices=tuple(notices))


def _choose_folders(root: Path, said: Mapping[str, str], notices: list[str]) -> dict[str, Path]:
    present = [path.name for path in _visible_folders(root)]
    for part, name in said.items():
        if not (root / name).is_dir():
            raise DataError(f"{root / name}: no such folder (data.splits.{part}); found: {_listed(present)}")
    if len({(root / name).resolve() for name in said.values()}) < len(said):
        raise DataError(f"data.splits gives one folder two parts ({dict(said)}); they must not share images")
    chosen = {part: part for part in _SPLIT_WORDS if part in present and part not in said.values()} | dict(said)
    unused = [name for name in present if name not in chosen.values()]
    split_like = {part: name for part, words in _SPLIT_WORDS.items() for name in unused if name.lower() in words}
    hint = "data.splits: " + str(chosen | split_like).replace("'", "")
    if "train" not in chosen:
        if chosen or split_like:
            raise DataError(f"{root} has no folder train/ but {_listed(present)}; say which plays which part: {hint}")
        return {"train": root}  # class folders and nothing else: all splits are carved from them
    if chosen.get("val") == "val" and "test" not in chosen:
        notices.append(
            f"{root} has val/ and no test/: val/ is validation, and the test images are carved from train/. "
            f"To test on val/ instead, set data.splits: {{test: val}}; validation is then carved from train/"
        )
    if unused:
        notices.append(f"not used in {root}: {_listed(unused)}" + (f"; to use them, set {hint}" if split_like else ""))
    return {part: root / name for part, name in chosen.items()}


def _class_names(train: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _visible_folders(train))
    if not names and any(is_image_name(path.name) for path in train.iterdir()):
        raise DataError(f"{train} holds images but no class folders; put those of each class in a folder of its own")
    if not names:
        raise DataError(f"{train} is empty: it should hold a folder of images for each class, <class>/*.jpg")
    if len(names) == 1:
        raise DataError(f"{train} has one class only ({names[0]}); a classifier needs at least two")
    return names


def _scan(folder: Path, class_names: tuple[str, ...], notices: list[str], num_workers: int | None) -> FolderPart:
    foreign = [path.name for path in _visible_folders(folder) if path.name not in class_names]
    if foreign:
        close = difflib.get_close_matches(foreign[0], class_names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"{folder} has classes that the training folder lacks: {_listed(foreign)}{hint} "
            f"(known: {_listed(class_names)}). Rename or remove these folders"
        )
    files: list[str] = []
    labels: list[int] = []
    loose = [path.name for path in folder.iterdir() if path.is_file() and not is_hidden(path.name)]
    strangers = [name for name in loose if not is_image_name(name)]
    for label, name in enumerate(class_names):
        images, others = _walk(folder, name)
        files += images
        labels += [label] * len(images)
        strangers += others
    if not files:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{folder} is empty: its class folders hold no images (names that end in {suffixes})")
    if strangers:
        heic = any(name.lower().endswith((".heic", ".heif")) for name in strangers)
        hint = "; convert HEIC photos to JPEG to use them" if heic else ""
        notices.append(f"left out of {folder}, being no images: {_listed(strangers)}{hint}")
    if pictures := [name for name in loose if is_image_name(name)]:
        notices.append(f"left out of {folder}, being in no class folder: {_listed(pictures)}")
    if hidden := [path.name for path in folder.iterdir() if path.is_dir() and is_hidden(path.name)]:
        notices.append(f"left out of {folder}, being hidden: {_listed(hidden)}")
    return FolderPart(folder, tuple(files), np.array(labels, dtype=np.int64), num_workers)


def _walk(folder: Path, class_name: str) -> tuple[list[str], list[str]]:
    """Images and other files of a class, at any depth, as paths below `folder`, sorted."""
    images: list[str] = []
    others: list[str] = []
    # Plain strings: with tens of thousands of files, Path objects would take most of the time.
    for parent, subfolders, files in os.walk(folder / class_name):
        inside = Path(parent).relative_to(folder).as_posix()
        others += [f"{inside}/{name} (a link)" for name in subfolders if Path(parent, name).is_symlink()]
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        for file in files:
            if not is_hidden(file):
                (images if is_image_name(file) else others).append(f"{inside}/{file}")
    return sorted(images), sorted(others)


def _visible_folders(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda path: path.name)


def _listed(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit]) or "nothing"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def moved_images(data: schema.Data, data_root: Path, class_names: Collection[str]) -> schema.Data:
    """The `data` section for images that are looked for in `data_root`, where they were elsewhere in training.

    The folder of images is named by `data.root` below it, or it is `data_root` itself.
    """
    if data.source != "image_folder":
        return data
    below = data_root / str(data.root)
    itself = any((data_root / name).is_dir() for name in ("train", *class_names))
    if below.is_relative_to(data_root) and (below.is_dir() or not itself):
        return data
    return data.model_copy(update={"root": "."})
