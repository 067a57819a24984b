"""Asking another process again and again whether it is there, through stores: PyTorch answers without Python."""

import threading
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

BEAT_SECONDS = 0.5  # between two questions


def answering(*, until_seconds: float) -> dist.TCPStore:
    """A store of this process, at a free port, which answers as long as it is kept."""
    return dist.TCPStore(
        "localhost", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=until_seconds)
    )


def connected(address: str, *, seconds: float) -> dist.TCPStore:
    """The store of another process, at HOST:PORT.

    Raises:
        DistError: It is not reached within this time.
    """
    host, _, port = address.rpartition(":")
    timeout = timedelta(seconds=seconds)
    return dist.TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timeout)


class Asker(threading.Thread):
    """Asks the same again and again, and may wait for an answer forever.

    Attributes:
        is_cut: Whether there is nobody to answer any more.
    """

    def __init__(self, ask: Callable[[], object], closed: threading.Event) -> None:
        super().__init__(name="watch", daemon=True)
        self._ask, self._closed = ask, closed
        self._answers = self._seen = self._looks = 0
        self.is_cut = False

    def run(self) -> None:
        """Until the watch is closed."""
        try:
            while not self._closed.wait(BEAT_SECONDS):
                self._ask()
                self._answers += 1
        except RuntimeError:
            self.is_cut = True

    def silent_seconds(self) -> float:
        """Since the last answer, as whoever asks this every `BEAT_SECONDS` has lived them.

        Where all processes were stopped for an hour and go on, that hour does not count.
        """
        self._looks = self._looks + 1 if self._answers == self._seen else 0
        self._seen = self._answers
        return float("inf") if self.is_cut else self._looks * BEAT_SECONDS
