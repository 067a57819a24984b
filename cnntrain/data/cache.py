"""Decoded images on disk, so that the next start does not decode again.

An entry is a folder named after everything that its content depends on: the list of files with their sizes
and times of change, and how they were fitted. A changed file gives another name; what was not used for
`KEEP_DAYS` is removed.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from cnntrain.data.preprocessing import Preprocessing
from cnntrain.data.source import Stored
from cnntrain.errors import DataError

KEEP_DAYS = 30
_VERSION = 1  # to be raised when decoding or fitting changes what comes out


def key_of(folder: Path, files: Iterable[str], preprocessing: Preprocessing) -> str:
    """The name of the entry for these files, fitted this way."""
    fitting = (preprocessing.channels, preprocessing.stored_size, preprocessing.resize)
    digest = hashlib.sha256(f"{_VERSION} {folder.resolve()} {fitting}".encode())
    for file in files:
        try:
            status = os.stat(f"{folder}/{file}")  # noqa: PTH116 (text, for speed)
        except OSError as error:  # a dangling link, say
            raise DataError(f"{folder}/{file}: cannot be read: {error.strerror}") from error
        digest.update(f"\0{file}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def load_or_build(key: str, build: Callable[[], Stored]) -> Stored:
    """The cached entry, else what `build` returns, which is then kept where there is space for it."""
    entry = user_cache_path("cnntrain") / "decoded" / key
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged: decode again
        os.utime(entry)
        return Stored(np.load(entry / "images.npy"), np.load(entry / "digests.npy"))
    stored = build()
    with contextlib.suppress(OSError):  # a read-only home or a full disk costs speed, not the run
        _write(entry, stored)
    return stored


def _write(entry: Path, stored: Stored) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    _remove_unused(entry.parent)
    if shutil.disk_usage(entry.parent).free < 2 * stored.images.nbytes:
        return
    # Written whole beside its name, then renamed, so that an interruption leaves no half entry.
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".partial-") as partial:
        finished = Path(partial) / "finished"
        finished.mkdir()
        for name, array in (("images.npy", stored.images), ("digests.npy", stored.digests)):
            with (finished / name).open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        if entry.exists():
            shutil.rmtree(entry)
        finished.rename(entry)


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    for entry in folder.iterdir():
        if entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
