"""What a folder holds: looked through to the bottom, without losing what cannot be read."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnntrain.errors import DataError


class Listing(NamedTuple):
    """Names of the folders in a folder, and of all else, sorted. A link to a folder is a folder."""

    folders: list[str]
    files: list[str]

    @property
    def visible(self) -> list[str]:
        """The folders that are not hidden."""
        return [name for name in self.folders if not is_hidden(name)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not see, such as .DS_Store or __MACOSX."""
    return name.startswith((".", "__"))


def list_folder(folder: Path) -> Listing:
    """What lies in a folder.

    Raises:
        DataError: It cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    return Listing(sorted(folders), sorted(files))


def walk(folder: Path | str, unreadable: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and those below it, each with its folders and its files, sorted; links to folders are not followed.

    Hidden folders are named, and not entered.

    Args:
        folder: Where to begin; may be a link.
        unreadable: Gets a line for each folder that cannot be read, with the reason.
    """

    def note(error: OSError) -> None:
        unreadable.append(f"{error.filename}: cannot be read: {error.strerror}")

    # Plain strings: with tens of thousands of files, Path objects would take most of the time.
    for parent, folders, files in os.walk(folder, onerror=note):
        yield parent, sorted(folders), sorted(files)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
