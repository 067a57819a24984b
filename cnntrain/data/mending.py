"""What is read from a mapped cache entry is compared with its seal, and decoded again where it is damaged."""

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

from torch import Tensor

from cnntrain.data import cache
from cnntrain.data.arrays import Digests, Items


class Mending:
    """Puts damaged items right as they are read.

    Args:
        key: The cache entry's name; at the first damage it is removed, so that the next start makes it anew.
        seals: uint8 (N, 32), of its items.
        decode: Position -> an item, uint8.
        say: Is told of the first damage.
    """

    def __init__(self, key: str, seals: Digests, decode: Callable[[int], Items], say: cache.Say) -> None:
        self._key = key
        self._seals = seals
        self._decode = decode
        self._say = say
        self._is_told = False
        self._lock = Lock()

    def __call__(self, rows: Tensor, positions: Tensor) -> None:
        """Checks items uint8 (B, *item_shape), on the CPU, which were read from these positions, int64 (B,).

        Raises:
            DataError: One is damaged, and its file cannot be read any more.
        """
        for row, position in zip(rows.numpy(), positions.tolist(), strict=True):
            if cache.seal_of(row) == self._seals[position].tobytes():
                continue
            with self._lock:  # batches are read by several threads
                self._tell()
            row[:] = self._decode(position)

    def __reduce__(self) -> tuple[Any, ...]:
        return Mending, (self._key, self._seals, self._decode, self._say)

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            cache.say_damaged(self._key, "an image is not what was written", self._say)
            with suppress(OSError):  # another process was quicker, or it is another user's
                cache.remove(self._key)
