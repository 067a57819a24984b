"""Where images wait to be asked for: in memory, or in their files, from which they are read ahead."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from cnntrain.data.preprocessing import Pixels


class ImageStore(Protocol):
    """All images of a part of a data set, fitted, by position."""

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        """For each span of an order the images at those positions.

        Args:
            order: int64 (M,), on the CPU.
            spans: Pieces of it, in the order in which they will be asked for; they may overlap.

        Yields:
            uint8 (B, H, W, C), on the device that trains.
        """


class ResidentImages:
    """Images in the memory of the device that trains, or in that of the host, or mapped there from a file.

    Args:
        images: uint8 (N, H, W, C).
        device: Where batches are wanted.
    """

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images = images
        self._upload = Upload(device)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        """See `ImageStore`."""
        order = order.to(self.images.device)
        for span in spans:
            yield self._upload(self.images.index_select(0, order[span]))


class MappedImages:
    """Images in a file that is mapped into memory; threads read ahead, so that training need not wait for the disk.

    Args:
        images: uint8 (N, H, W, C).
        device: Where batches are wanted.
        mend: Is given what was read, uint8 (B, H, W, C), with its positions, int64 (B,), and may put it right.
    """

    def __init__(
        self, images: Tensor, device: torch.device, mend: Callable[[Tensor, Tensor], None] = lambda *_: None
    ) -> None:
        self._images = images
        self._mend = mend
        self._pool = ThreadPoolExecutor(_BATCHES_AHEAD + 1, thread_name_prefix="read")
        self._upload = Upload(device)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        """See `ImageStore`."""
        waiting: deque[Future[Tensor]] = deque()
        for span in spans:
            waiting.append(self._pool.submit(self._rows, order[span]))
            if len(waiting) > _BATCHES_AHEAD:
                yield self._upload(waiting.popleft().result())
        while waiting:
            yield self._upload(waiting.popleft().result())

    def _rows(self, positions: Tensor) -> Tensor:
        rows = self._images.index_select(0, positions)
        self._mend(rows, positions)
        return rows


class StreamedImages:
    """Images decoded when they are wanted, by threads that read ahead and live as long as the store.

    Threads, because Pillow decodes outside Python's lock: they need no copies, and start at once.

    Args:
        decode: Position -> uint8 (H, W, C).
        shape: (H, W, C).
        num_threads: How many decode at once; 0: the one that asks.
        device: Where batches are wanted.
    """

    def __init__(
        self, decode: Callable[[int], Pixels], shape: tuple[int, int, int], num_threads: int, device: torch.device
    ) -> None:
        self._decode = decode
        self._shape = shape
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode") if num_threads else _AtOnce()
        self._upload = Upload(device)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[Tensor]:
        """See `ImageStore`.

        Raises:
            DataError: An image cannot be read.
        """
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

    def _num_ahead(self, batch_size: int) -> int:
        # Enough that no thread runs dry while a batch is finished, and no more: a batch of photos is large.
        if not self._num_threads:
            return 0
        return max(2, math.ceil(4 * self._num_threads * _CHUNK / batch_size))

    def _begin(self, positions: list[int]) -> tuple[Tensor, list[Future[None]]]:
        batch = self._upload.buffer((len(positions), *self._shape))
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


_BATCHES_AHEAD = 2  # read from a mapped file before they are asked for
_CHUNK = 8  # images a task: a task for each would cost small images a third of the time


class Upload:
    """Brings batches, uint8 (B, H, W, C), to the device; on a GPU while it computes, from memory that stays in place.

    Args:
        device: Where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Memory of the host from which a batch of bytes is quickly brought over."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._stream is not None)

    def __call__(self, images: Tensor) -> Tensor:
        """The same images on the device; nothing happens to those that are there already."""
        if self._stream is None or images.is_cuda:
            return images.to(self._device)
        images = images if images.is_pinned() else images.pin_memory()
        with torch.cuda.stream(self._stream):
            there = images.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        there.record_stream(current)  # or its memory would be given away while it is still read
        return there
