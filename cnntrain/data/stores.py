"""Where examples wait to be asked for: in memory, or in their files, from which they are read ahead.

A store holds items (N, *item_shape) of one dtype, and does not know what they are.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from cnntrain.data.arrays import Items
from cnntrain.runtime.machine import available_cores


class Store(Protocol):
    """All examples of a part of a data set, fitted, by position."""

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        """For each span of an order the items at those positions.

        Args:
            order: int64 (M,), on the CPU.
            spans: Pieces of it, in the order in which they will be asked for; they may overlap.

        Yields:
            (B, *item_shape), on the device that trains.

        Raises:
            DataError: An item cannot be read.
        """

    def on(self, device: torch.device, *, home: torch.device, num_processes: int = 1) -> "Store":
        """The same examples for batches on another device.

        Args:
            device: Where batches are wanted.
            home: Whose memory holds them, where memory does.
            num_processes: That share this machine's cores.
        """


class ResidentStore(Store):
    """Items in the memory of the device that trains, or in that of the host, or mapped there from a file.

    Args:
        items: (N, *item_shape).
        device: Where batches are wanted.
    """

    def __init__(self, items: Tensor, device: torch.device) -> None:
        self.items = items
        self._upload = Upload(device)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        order = order.to(self.items.device)
        for span in spans:
            yield self._upload(self.items.index_select(0, order[span]))

    def on(self, device: torch.device, *, home: torch.device, num_processes: int = 1) -> "ResidentStore":
        return ResidentStore(self.items.to(home), device)

    def __reduce__(self) -> tuple[Any, ...]:
        return ResidentStore, (self.items, _CPU)


class MappedStore(Store):
    """Items in a file that is mapped into memory; threads read ahead, so that training need not wait for the disk.

    Args:
        items: (N, *item_shape).
        device: Where batches are wanted.
        mend: Is given what was read, (B, *item_shape), with its positions, int64 (B,), and may put it right.
    """

    def __init__(
        self, items: Tensor, device: torch.device, mend: Callable[[Tensor, Tensor], None] = lambda *_: None
    ) -> None:
        self._items = items
        self._mend = mend
        self._pool = ThreadPoolExecutor(_BATCHES_AHEAD + 1, thread_name_prefix="read")
        self._upload = Upload(device)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        waiting: deque[Future[Tensor]] = deque()
        for span in spans:
            waiting.append(self._pool.submit(self._rows, order[span]))
            if len(waiting) > _BATCHES_AHEAD:
                yield self._upload(waiting.popleft().result())
        while waiting:
            yield self._upload(waiting.popleft().result())

    def _rows(self, positions: Tensor) -> Tensor:
        rows = self._items.index_select(0, positions)
        self._mend(rows, positions)
        return rows

    def on(self, device: torch.device, *, home: torch.device, num_processes: int = 1) -> "MappedStore":
        return MappedStore(self._items, device, self._mend)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedStore, (self._items, _CPU, self._mend)


class StreamedStore(Store):
    """Items decoded when they are wanted, by threads that read ahead and live as long as the store.

    Threads, because Pillow decodes outside Python's lock: they need no copies, and start at once.

    Args:
        decode: Position -> an item.
        item_shape: Of each.
        num_threads: How many decode at once; 0: the one that asks; None: one for each core.
        device: Where batches are wanted.
        dtype: Of items.
        num_processes: That share this machine's cores.
    """

    def __init__(
        self,
        decode: Callable[[int], Items],
        item_shape: tuple[int, ...],
        num_threads: int | None,
        device: torch.device,
        dtype: torch.dtype = torch.uint8,
        *,
        num_processes: int = 1,
    ) -> None:
        self._decode = decode
        self._item_shape, self._dtype = item_shape, dtype
        self._wanted_threads = num_threads
        num_threads = max(1, available_cores() // num_processes) if num_threads is None else num_threads
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode") if num_threads else _AtOnce()
        self._upload = Upload(device)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for span in spans:
                waiting.append(self._begin(order[span].tolist()))
                if len(waiting) > self._num_ahead(len(order[span])):
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:  # also when nobody asks for the rest
            for _, tasks in waiting:
                for task in tasks:
                    task.cancel()

    def on(self, device: torch.device, *, home: torch.device, num_processes: int = 1) -> "StreamedStore":
        kept = (self._decode, self._item_shape, self._wanted_threads)
        return StreamedStore(*kept, device, self._dtype, num_processes=num_processes)

    def __reduce__(self) -> tuple[Any, ...]:
        return StreamedStore, (self._decode, self._item_shape, self._wanted_threads, _CPU, self._dtype)

    def _num_ahead(self, batch_size: int) -> int:
        # Enough that no thread runs dry while a batch is finished, and no more: a batch may be large.
        if not self._num_threads:
            return 0
        return max(2, math.ceil(4 * self._num_threads * _CHUNK / batch_size))

    def _begin(self, positions: list[int]) -> tuple[Tensor, list[Future[None]]]:
        batch = self._upload.buffer((len(positions), *self._item_shape), self._dtype)
        rows = batch.numpy()

        def fill(start: int) -> None:
            for row in range(start, min(start + _CHUNK, len(positions))):
                rows[row] = self._decode(positions[row])

        return batch, [self._pool.submit(fill, start) for start in range(0, len(positions), _CHUNK)]

    def _finish(self, batch: Tensor, tasks: list[Future[None]]) -> Tensor:
        for task in tasks:
            task.result()
        return self._upload(batch)


class _AtOnce(Executor):
    """Does what it is given while it is given it."""

    def submit(self, task: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        """See `Executor`."""
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments, **named))
        except Exception as error:  # is raised where the result is asked for
            future.set_exception(error)
        return future


_CPU = torch.device("cpu")
_BATCHES_AHEAD = 2  # read from a mapped file before they are asked for
_CHUNK = 8  # items a task: a task for each would cost small ones a third of the time


class Upload:
    """Brings batches to the device; on a GPU while it computes, from memory that stays in place.

    Args:
        device: Where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host from which a batch is quickly brought over."""
        return torch.empty(shape, dtype=dtype, pin_memory=self._stream is not None)

    def __call__(self, batch: Tensor) -> Tensor:
        """The same items on the device; nothing happens to those that are there already."""
        if self._stream is None or batch.is_cuda:
            return batch.to(self._device)
        batch = batch if batch.is_pinned() else batch.pin_memory()
        with torch.cuda.stream(self._stream):
            there = batch.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        there.record_stream(current)  # or its memory would be given away while it is still read
        return there
