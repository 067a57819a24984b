"""Decoded images on disk, so that the next start does not decode again.

An entry is a folder named after everything that its content depends on: the list of files with their sizes
and times of change, and how they were fitted. A changed file gives another name; what was not used for
`KEEP_DAYS` is removed. Entries are written whole beside their name, then renamed, so that an interruption
leaves no half entry. What a killed process left is removed an hour after its last write.

Nothing is believed that does not fit its seal. An array has one, the sha256 of its entry's name and its bytes.
Images have one each, so that of a file that is mapped into memory only what is asked for needs to be read; these
seals are an array, with its own.
"""

import contextlib
import errno
import hashlib
import io
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from cnntrain.data.arrays import Digests, Items
from cnntrain.data.sharing import PRIVATE, Memory
from cnntrain.errors import DataError, StorageError
from cnntrain.runtime.machine import available_cores

KEEP_DAYS = 30
_PARTIAL = ".partial-"
_VERSION = 4  # to be raised when decoding, fitting or the format of entries changes
_SEAL_BYTES = 32  # of a sha256
_AT_ONCE = 512  # images that a thread compares with their seals

Shape = tuple[int, ...]  # (N, *item_shape)
Say = Callable[[str], None]


class CachedImages(NamedTuple):
    """The images of an entry, uint8 (N, *item_shape), and the sha256 of each, uint8 (N, 32)."""

    images: Items
    seals: Digests


def folder() -> Path:
    """Where entries are."""
    return user_cache_path("cnntrain") / "decoded"


def key_of(parent: Path, files: Iterable[str]) -> str:
    """A text that stands for these files below a folder, as they are now: another one where any of them has changed.

    Raises:
        DataError: One of them is not there.
    """
    digest = hashlib.sha256(f"{parent.resolve()}".encode(errors="surrogateescape"))
    for file in files:
        try:
            status = os.stat(f"{parent}/{file}")  # noqa: PTH116 (text, for speed)
        except OSError as error:  # a dangling link, say
            raise DataError(f"{parent}/{file}: cannot be read: {error.strerror}") from error
        digest.update(f"\0{file}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def key_of_text(text: str) -> str:
    """The name of an entry that depends on nothing but this text."""
    return hashlib.sha256(f"{_VERSION} {text}".encode()).hexdigest()[:32]


def load_images(
    key: str, shape: Shape, say: Say, *, mapped: bool, check: bool = True, memory: Memory = PRIVATE
) -> CachedImages | None:
    """The images of an entry; None where there is none, or a damaged one, which is said.

    Args:
        key: The entry's name.
        shape: (N, *item_shape), as they should be.
        say: Is told what is damaged.
        mapped: Leave the images in their file, from which the system reads what is asked for; they cannot be written.
        check: Compare all of them with their seals now, which reads them all; else that is left to who reads them.
        memory: Where they are read into, or mapped.

    Raises:
        StorageError: The system does not map so large a file.
    """
    entry = folder() / key
    if not os.path.lexists(entry):
        return None
    try:
        seals = _read_array(entry / "seals.npy", np.uint8, (shape[0], _SEAL_BYTES))
        images = _open_images(entry / "images.npy", shape, memory, mapped=mapped)
    except (OSError, ValueError) as error:
        if mapped and isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise StorageError(f"{entry}: cannot be mapped: {error.strerror}; set data.storage: stream") from error
        say_damaged(key, error, say)
        return None
    if check and (bad := damaged_images(images, seals)):
        say_damaged(key, f"{bad:,} of {shape[0]:,} images are not what was written", say)
        return None
    _mark_used(entry)
    return CachedImages(images, seals)


def say_damaged(key: str, why: object, say: Say) -> None:
    """One line for people: which entry is damaged, and that it does no harm."""
    reason = (why.strerror or why) if isinstance(why, OSError) else why
    say(f"     note: the cache entry {folder() / key} is damaged ({reason}); what it held is made anew from the files")


def damaged_images(images: Items, seals: Digests) -> int:
    """How many images do not fit their seals."""
    flat = images.reshape(len(images), -1)

    def count(start: int) -> int:
        span = slice(start, start + _AT_ONCE)
        return sum(seal_of(image) != seal.tobytes() for image, seal in zip(flat[span], seals[span], strict=True))

    with ThreadPoolExecutor(available_cores()) as pool:
        return sum(pool.map(count, range(0, len(images), _AT_ONCE)))


def seal_of(image: Items) -> bytes:
    """The seal of an image, uint8, of any shape."""
    return hashlib.sha256(image.reshape(-1).data).digest()


def remove(key: str) -> None:
    """Removes an entry; whoever has mapped its images can still read them."""
    entry = folder() / key
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)  # another process may be quicker
    else:
        entry.unlink(missing_ok=True)


def save_images(key: str, shape: Shape, images: Iterable[Items]) -> None:
    """Writes an entry, image by image.

    Args:
        key: The entry's name.
        shape: (N, *item_shape).
        images: N arrays uint8 of that shape.

    Raises:
        OSError: The folder cannot be written, or is full.
    """
    seals = np.empty((shape[0], _SEAL_BYTES), dtype=np.uint8)
    with _new_entry(key) as entry:
        with (entry / "images.npy").open("wb") as file:
            file.write(_images_header(shape))
            for index, image in enumerate(images):
                content = image.tobytes()
                file.write(content)
                seals[index] = np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)
            _flush(file)
        _write_array(entry / "seals.npy", key, seals)


def remember(
    key: str, build: Callable[[], npt.NDArray[Any]], dtype: npt.DTypeLike, shape: tuple[int | None, ...], say: Say
) -> npt.NDArray[Any]:
    """A small array: that of an earlier start, else what `build` returns.

    Args:
        key: The entry's name.
        build: Makes the array.
        dtype: It has.
        shape: It has; None where any length will do.
        say: Is told of a damaged entry.
    """
    entry = folder() / key
    if os.path.lexists(entry):
        try:
            array = _read_array(entry / "array.npy", dtype, shape)
        except (OSError, ValueError) as error:
            say_damaged(key, error, say)
        else:
            _mark_used(entry)
            return array
    array = build()
    keep(key, array)
    return array


def keep(key: str, array: npt.NDArray[Any]) -> None:
    """Writes what `remember` finds, in place of what is there; where nothing can be written, nothing is."""
    with contextlib.suppress(OSError), _new_entry(key) as partial:  # a read-only home costs time, not the run
        _write_array(partial / "array.npy", key, array)


def _write_array(path: Path, key: str, array: npt.NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    with path.open("wb") as file:
        file.write(_seal_of_array(key, content) + content)
        _flush(file)


def _read_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """The inverse of `_write_array`; what fails its seal is not even parsed."""
    _check_regular(path)  # reading anything else may never end
    content = path.read_bytes()
    seal, content = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
    if seal != _seal_of_array(path.parent.name, content):
        raise ValueError(f"{path.name} is not what was written")
    array: npt.NDArray[Any] = np.load(io.BytesIO(content))
    fits = len(array.shape) == len(shape) and all(
        want in (None, is_) for want, is_ in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path.name} is no regular file")


def _seal_of_array(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _open_images(path: Path, shape: Shape, memory: Memory, *, mapped: bool) -> Items:
    """A file of images, uint8 (N, *item_shape); its header must be the one written, so nothing in it is parsed."""
    header = _images_header(shape)
    _check_regular(path)
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise ValueError(f"{path.name} has another header than was written")
        if os.fstat(file.fileno()).st_size != len(header) + math.prod(shape):
            raise ValueError(f"{path.name} has another size than was written")
        if mapped:
            return memory.mapped(file, len(header), shape)
        images = memory.empty(shape)
        if file.readinto(images.data) != images.nbytes:
            raise ValueError(f"{path.name} was cut off while it was read")
    return images


def _images_header(shape: Shape) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


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
    if os.path.lexists(parent / key):  # damaged, or it would have been used
        remove(key)
    with tempfile.TemporaryDirectory(dir=parent, prefix=_PARTIAL) as partial:
        finished = Path(partial) / "finished"
        finished.mkdir()
        yield finished
        if not (parent / key).exists():  # else another process was quicker
            finished.rename(parent / key)


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
