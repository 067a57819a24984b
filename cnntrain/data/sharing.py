"""What the processes of a machine hold once for all of them: large arrays, in memory that they share."""

import io
import mmap
import os
import pickle
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from math import prod
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnntrain.data.arrays import Items
from cnntrain.data.reporter import Reporter
from cnntrain.errors import DeviceError
from cnntrain.runtime.processes import Processes
from cnntrain.runtime.shared_files import anonymous_file, inode_of, opened, path_for_others

T = TypeVar("T")

_LARGE = 4096  # bytes; an array of fewer is given to each process


class Memory:
    """Where large arrays are put: here, the memory of this process alone."""

    def empty(self, shape: tuple[int, ...]) -> Items:
        """Room for items, uint8."""
        return np.empty(shape, dtype=np.uint8)

    def mapped(self, file: Any, offset: int, shape: tuple[int, ...]) -> Items:
        """Items, uint8, that lie in an open file at this offset, and stay there; they cannot be written."""
        return np.memmap(file, dtype=np.uint8, mode="r", offset=offset, shape=shape)


PRIVATE = Memory()


def made_here(make: Callable[[Memory], T], processes: Processes, reporter: Reporter) -> T:
    """What the first process of each machine makes, for all of them there; its large arrays are in memory once.

    Args:
        make: Is told where to put large arrays; others are brought there afterwards. In what it makes, arrays and
            tensors are on the host.
        processes: That want it.
        reporter: Stands, in what the others get, for the first one's.

    Raises:
        DeviceError: The others cannot reach the first one's memory.
    """
    if processes.count == 1:
        return make(PRIVATE)
    with _SharedMemory() as memory:
        packed = processes.first_here(lambda: memory.pack(make(memory), reporter))
        made: T = _unpack(packed, reporter)
        processes.any(False)  # all have opened what nobody can open when it is left
    return made


class _Place(NamedTuple):
    """Where other processes find an array: in a file, which may have no name of its own."""

    path: str
    inode: int
    offset: int
    shape: tuple[int, ...]
    dtype: str


class _SharedMemory(Memory):
    """Memory that the other processes of the machine can map until it is left; what they have mapped they keep.

    It consists of anonymous files.
    """

    def __init__(self) -> None:
        self._files = ExitStack()
        self._arrays: list[tuple[npt.NDArray[Any], str, int]] = []  # with the file of each, and where in it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def empty(self, shape: tuple[int, ...]) -> Items:
        if prod(shape) < _LARGE:
            return super().empty(shape)
        file = self._files.enter_context(anonymous_file())
        array = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
        self._keep(array, file, 0)
        return array

    def mapped(self, file: Any, offset: int, shape: tuple[int, ...]) -> Items:
        array = super().mapped(file, offset, shape)
        self._keep(array, file, offset)
        return array

    def _keep(self, array: npt.NDArray[Any], file: Any, offset: int) -> None:
        """Keeps the file open, so that others can open it, though it has no name or may lose it."""
        number = os.dup(file.fileno())
        self._files.callback(os.close, number)
        self._arrays.append((array, path_for_others(number, str(file.name)), offset))

    def pack(self, value: Any, reporter: Reporter) -> bytes:
        """What `_unpack` takes."""
        packed = io.BytesIO()
        _Packer(packed, self, reporter).dump(value)
        self._arrays.clear()
        return packed.getvalue()

    def place_of(self, array: npt.NDArray[Any]) -> _Place:
        """Where an array lies, or now a copy of it, if it lies in no file."""
        array = np.ascontiguousarray(array)
        for known, path, offset in self._arrays:
            start = _address(array) - _address(known)
            if start >= 0 and start + array.nbytes <= known.nbytes:
                return _Place(path, inode_of(path), offset + start, array.shape, array.dtype.str)
        copy = self.empty((array.nbytes,)).view(array.dtype).reshape(array.shape)
        copy[...] = array
        return self.place_of(copy)


class _Packer(pickle.Pickler):
    """Leaves large arrays out, and says where they are."""

    def __init__(self, file: io.BytesIO, memory: _SharedMemory, reporter: Reporter) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._memory, self._reporter = memory, reporter

    def persistent_id(self, value: Any) -> Any:
        if value is self._reporter:
            return "reporter"
        if isinstance(value, Tensor):
            return "tensor", value.numpy()
        if isinstance(value, np.ndarray) and value.nbytes >= _LARGE:
            return self._memory.place_of(value)
        return None


class _Unpacker(pickle.Unpickler):
    """Puts the arrays back where they are wanted."""

    def __init__(self, file: io.BytesIO, reporter: Reporter) -> None:
        super().__init__(file)
        self._reporter = reporter
        self._mapped: dict[str, mmap.mmap] = {}

    def persistent_load(self, value: Any) -> Any:
        if value == "reporter":
            return self._reporter
        if not isinstance(value, _Place):
            return torch.from_numpy(value[1])
        if value.path not in self._mapped:
            self._mapped[value.path] = _mapped_file(value)
        return np.ndarray(value.shape, value.dtype, buffer=self._mapped[value.path], offset=value.offset)


def _unpack(packed: bytes, reporter: Reporter) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and nobody writes
        return _Unpacker(io.BytesIO(packed), reporter).load()


def _mapped_file(place: _Place) -> mmap.mmap:
    try:
        with opened(place.path, place.inode, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DeviceError(
            f"{place.path}: the memory of the first process on this machine cannot be shared ({error}); "
            f"start all processes of a machine in one container, as one user"
        ) from error


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
