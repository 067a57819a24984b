"""Whether the folders that are taken for classes are what their owner takes for classes."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnntrain.data.split_folders import SPLIT_WORDS
from cnntrain.errors import DataError
from cnntrain.runtime.names import quoted


def check_names(folder: Path, names: Sequence[str]) -> None:
    """Refuses names of classes that could not be written down.

    Raises:
        DataError: A name is not UTF-8, as in archives from systems with another encoding.
    """
    broken = [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]
    if broken:
        raise DataError(
            f"{folder}: the names of the class folders {quoted(broken)} are not UTF-8 and cannot stand in results; "
            f"rename them (convmv -f latin1 -t utf8 converts many)"
        )


def alike(name: str) -> str:
    """What two names share that look the same, or nearly: without case, outer spaces and the way of encoding."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def class_warnings(place: str, files: Iterable[str]) -> list[str]:
    """What may be wrong with the classes, one sentence each.

    Args:
        place: The folder that holds the class folders.
        files: Paths of images below it, `<class>/.../<file>`.
    """
    images: Counter[str] = Counter()
    inner: dict[str, set[str]] = {}  # of classes whose images all lie in folders of their own: these folders
    direct: set[str] = set()
    for file in files:
        name, _, rest = file.partition("/")
        images[name] += 1
        if "/" in rest:
            inner.setdefault(name, set()).add(rest.partition("/")[0])
        else:
            direct.add(name)
    groups = {name: sorted(folders) for name, folders in inner.items() if name not in direct}
    return [*_nested(place, groups), *_look_alikes(images)]


def _nested(place: str, groups: dict[str, list[str]]) -> list[str]:
    """Class folders that hold folders which seem to be the classes, or the splits."""
    owners = Counter(folder for folders in groups.values() for folder in folders)
    words = {word for names in SPLIT_WORDS.values() for word in names}
    if groups and all(folder.lower() in words for folder in owners):
        return [
            f"{quoted(list(groups))} are taken for the classes, and {quoted(list(owners))} in them for more images of "
            f"the class, which are mixed and split anew; if these are the splits, make them the upper folders: "
            f"<split>/<class>/*"
        ]
    # Folders of one name in several classes, such as `images`, say nothing about classes; nor does a single one.
    if max(owners.values(), default=2) > 1 or len(owners) < 2:
        return []
    some = [f"{name}/{folder}" for name, folders in groups.items() for folder in folders]
    return [
        f"{quoted(list(groups))} are taken for the classes, and the folders in them ({quoted(some, 4)}) for more "
        f"images of the same class; if those are the classes, move them up: mv {place}/*/* {place}/"
    ]


def _look_alikes(names: Iterable[str]) -> list[str]:
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(alike(name), []).append(name)
    return [
        f"{quoted(same)} are {len(same)} classes, whose names differ only in case, in spaces or in how letters are "
        f"encoded; if they are one, move their images into one folder"
        for same in spellings.values()
        if len(same) > 1
    ]
