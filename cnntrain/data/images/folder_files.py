"""The files of a folder of images, as training keeps them: their names, and how one of them becomes an image."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from cnntrain.data.arrays import Indices
from cnntrain.data.images.decode import fit_content, read_bytes
from cnntrain.data.images.preprocessing import Pixels, Preprocessing


@dataclass(frozen=True, eq=False)
class FolderFiles:
    """Names of files, in two arrays: they take a third of a tuple's memory, and several processes can share them.

    Attributes:
        folder: What they are relative to.
        letters: uint8 (M,), one name after the other.
        ends: int64 (N,), where each ends.
    """

    folder: Path
    letters: npt.NDArray[np.uint8]
    ends: Indices

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> Self:
        """Keeps these names."""
        encoded = [name.encode(errors="surrogateescape") for name in names]
        letters = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(folder, letters, np.cumsum([len(name) for name in encoded], dtype=np.int64))

    def __getitem__(self, index: int) -> str:
        """The name of a file."""
        begin = self.ends[index - 1] if index else 0
        return self.letters[begin : self.ends[index]].tobytes().decode(errors="surrogateescape")

    def name_of(self, index: int) -> str:
        """The path below the folder's parent, such as `train/cats/1.jpg`."""
        return f"{self.folder.name}/{self[index]}"


@dataclass(frozen=True, eq=False)
class Decode:
    """Position -> the image of that file, fitted, uint8 (stored_size, stored_size, C)."""

    files: FolderFiles
    preprocessing: Preprocessing

    def __call__(self, index: int) -> Pixels:
        path = self.files.folder / self.files[index]
        return fit_content(read_bytes(path), self.preprocessing, path)
