"""Decoded images on disk, so that the next start does not decode again.

An entry is a folder named after everything that its content depends on: the list of files with their sizes
and times of change, and how they were fitted. A changed file gives another name; what was not used for
`KEEP_DAYS` is removed. Entries are written whole beside their name, then renamed, so that an interruption
leaves no half entry. What a killed process left is removed an hour after its last write.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from cnntrain.data.preprocessing import Pixels, Preprocessing
from cnntrain.errors import DataError, StorageError

KEEP_DAYS = 30
_PARTIAL = ".partial-"
_VERSION = 3  # to be raised when decoding or fitting changes what comes out

Shape = tuple[int, int, int, int]


def folder() -> Path:
    """Where entries are."""
    return user_cache_path("cnntrain") / "decoded"


def key_of(parent: Path, files: Iterable[str], preprocessing: Preprocessing | None) -> str:
    """The name of the entry for these files below a folder: as they are, or fitted in this way."""
    fitting = preprocessing and (preprocessing.channels, preprocessing.stored_size, preprocessing.resize)
    digest = hashlib.sha256(f"{_VERSION} {parent.resolve()} {fitting}".encode())
    for file in files:
        try:
            status = os.stat(f"{parent}/{file}")  # noqa: PTH116 (text, for speed)
        except OSError as error:  # a dangling link, say
            raise DataError(f"{parent}/{file}: cannot be read: {error.strerror}") from error
        digest.update(f"\0{file}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def key_of_text(text: str) -> str:
    """The name of an entry that depends on nothing but this text."""
    return hashlib.sha256(f"{_VERSION} {text}".encode()).hexdigest()[:32]


def load_images(key: str, *, mapped: bool) -> tuple[Pixels, Pixels] | None:
    """Images uint8 (N, H, W, C) and digests uint8 (N, 32) of an entry; None where there is none, or a damaged one.

    Args:
        key: The entry's name.
        mapped: Leave the images in their file, from which the system reads what is asked for; they cannot be written.

    Raises:
        StorageError: The system does not map so large a file.
    """
    entry = folder() / key
    try:
        images = np.load(entry / "images.npy", mmap_mode="r" if mapped else None)
        digests = np.load(entry / "digests.npy")
    except (OSError, ValueError, EOFError) as error:
        if mapped and isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise StorageError(f"{entry}: cannot be mapped: {error.strerror}; set data.storage: stream") from error
        return None
    _mark_used(entry)
    return images, digests


def save_images(key: str, shape: Shape, images: Iterable[Pixels], digests: Pixels) -> None:
    """Writes an entry, image by image.

    Args:
        key: The entry's name.
        shape: (N, H, W, C).
        images: N arrays uint8 (H, W, C).
        digests: uint8 (N, 32), complete when all images were taken.

    Raises:
        OSError: The folder cannot be written, or is full.
    """
    with _new_entry(key) as entry:
        with (entry / "images.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for image in images:
                file.write(image.tobytes())
            _flush(file)
        _save(entry / "digests.npy", digests)


def remember(key: str, build: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """A small array: that of an earlier start, else what `build` returns."""
    entry = folder() / key
    with contextlib.suppress(OSError, ValueError, EOFError):
        found: npt.NDArray[Any] = np.load(entry / "array.npy")
        _mark_used(entry)
        return found
    array = build()
    with contextlib.suppress(OSError), _new_entry(key) as partial:  # a read-only home costs time, not the run
        _save(partial / "array.npy", array)
    return array


def free_space() -> int:
    """Bytes free where entries are written; 0 where none can be."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder()).free if os.access(folder(), os.W_OK) else 0
    except OSError:
        return 0


@contextmanager
def _new_entry(key: str) -> Iterator[Path]:
    parent = folder()
    parent.mkdir(parents=True, exist_ok=True)
    _remove_unused(parent)
    if (parent / key).exists():  # damaged, or it would have been used
        shutil.rmtree(parent / key)
    with tempfile.TemporaryDirectory(dir=parent, prefix=_PARTIAL) as partial:
        finished = Path(partial) / "finished"
        finished.mkdir()
        yield finished
        if not (parent / key).exists():  # else another process was quicker
            finished.rename(parent / key)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        _flush(file)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _mark_used(entry: Path) -> None:
    with contextlib.suppress(OSError):  # another user's
        os.utime(entry)


def _remove_unused(parent: Path) -> None:
    now = time.time()
    for entry in parent.iterdir():
        days = 1 / 24 if entry.name.startswith(_PARTIAL) else KEEP_DAYS
        with contextlib.suppress(OSError):  # it has just been finished or removed
            if now - max(path.stat().st_mtime for path in (entry, *entry.rglob("*"))) > days * 24 * 3600:
                shutil.rmtree(entry, ignore_errors=True)
