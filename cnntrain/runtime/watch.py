"""How a process learns, within seconds, that another one has failed, is gone or stands still; and who says so.

They share a store of keys, where the first failure is posted, for all to see. And each hosts a store of its own, which
the process before it, in a ring, asks again and again. PyTorch answers without Python: whoever computes for minutes
without a pause answers, and whoever is stopped or cut off does not.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch.distributed as dist

from cnntrain.runtime.asking import BEAT_SECONDS, Asker, answering, connected
from cnntrain.runtime.failure import Failure, cut_off, failure_of, failure_of_error, gone, is_of_connections, still
from cnntrain.runtime.signals import Stopped, StopSignals

LOST_AFTER_SECONDS = 50.0  # without an answer; a process that has ended is noticed at once, by its connections
_PATIENCE_SECONDS = 3.0  # for others to say why connections closed, and for the first to hear what it should tell
_GRACE_SECONDS = 5.0  # for a process to come to its end by itself, once all must end: within a minute, at the latest
_FAILURE, _HEARD = "failure", "heard"


class Watch:
    """Looks after the others from `start` to `close`.

    Args:
        store: Which all processes share.
        rank: Of this process.
        count: Of processes.
        host: Under which the others reach this machine.
        hosts: Whether the store ends with this process.
        speaks: Whether it is this process that tells when nobody reaches the store any more.
    """

    def __init__(self, store: dist.Store, rank: int, count: int, *, host: str, hosts: bool, speaks: bool) -> None:
        self._store, self._rank, self._count, self._hosts, self._speaks = store, rank, count, hosts, speaks
        self._next = (rank + 1) % count
        self._closed, self._over = threading.Event(), threading.Event()
        self._handlers: dict[int, Any] = {}  # of signals, before they were ignored
        self._posted: Failure | None = None
        self._own = answering(until_seconds=LOST_AFTER_SECONDS)
        store.set(f"watch/{rank}", f"{host}:{self._own.port}")
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """From now on; all have made theirs."""
        own_connection = self._store.clone()  # a store answers one question at a time
        neighbour = connected(self._store.get(f"watch/{self._next}").decode(), seconds=LOST_AFTER_SECONDS)
        of_store = Asker(lambda: self._look(own_connection), self._closed)
        of_next = Asker(lambda: neighbour.check([_FAILURE]), self._closed)
        judge = threading.Thread(target=self._judge, args=(of_store, of_next, own_connection), daemon=True)
        self._threads = [judge, of_store, of_next]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """This process has done its part. Where the store is its own, it waits for the others."""
        if not self._closed.is_set():
            with suppress(RuntimeError):  # who holds the store has ended
                self._part()
            self._closed.set()
            for thread in self._threads:
                thread.join(1)  # who asks a process that stands still cannot be ended
            del self._own, self._threads
        for number, handler in self._handlers.items():  # of who uses this as a library; a command ends now
            if not isinstance(getattr(handler, "__self__", None), StopSignals):
                signal.signal(number, handler)

    def is_over(self) -> bool:
        """Whether another process has failed, or is gone, so that waiting for it makes no sense."""
        return self._over.is_set()

    def _part(self) -> None:
        done = [f"done/{rank}" for rank in range(self._count)]
        self._store.set(done[self._rank], "")
        patience = _PATIENCE_SECONDS if self._store.check([_FAILURE]) else LOST_AFTER_SECONDS
        for _ in _pauses(patience if self._hosts else 0):
            if self._store.check(done):
                return

    def _ignore_signals(self) -> None:
        """A launcher that wants this process to end because another one has must not cut off the reason.

        They are not set to SIG_IGN, which commands that are started later would inherit.
        """
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGHUP"):
                if hasattr(signal, name):
                    number = getattr(signal, name)
                    self._handlers.setdefault(number, signal.signal(number, lambda *_: None))

    def explain(self, error: BaseException) -> BaseException:
        """What this process should raise, or end with, for an error of its own; all others will end too."""
        self._ignore_signals()
        try:
            failure, is_own = self._settled(error)
        except RuntimeError:  # who holds the store has ended; it may have said why
            failure, is_own = self._posted or self._cut_off(is_cut=True), False
        if is_own and self._rank > 0:
            failure = failure._replace(voice=self._rank)  # which it says with its number
        explained = error if is_own and self._rank == 0 else failure.error(self._rank, self._count)
        for note in getattr(error, "__notes__", []) if explained is not error else []:
            explained.add_note(note)
        return explained

    def _settled(self, error: BaseException) -> tuple[Failure, bool]:
        """What all agree on as the failure, and whether it is this process that tells it."""
        if is_of_connections(error):
            return self._agree_on(self._hear(_PATIENCE_SECONDS) or cut_off(error, self._rank)), False
        if isinstance(error, Stopped) and error.of_all:
            return self._agree_on(failure_of_error(error, 0)), self._rank == 0
        if isinstance(error, KeyboardInterrupt):  # torchrun stops the others when one is gone
            self._hear(3 * BEAT_SECONDS)
        elif self._rank > 0:
            time.sleep(BEAT_SECONDS)  # what has befallen all is told by the first
        failure = self._agree_on(failure_of_error(error, self._rank))
        is_own = failure.rank == self._rank
        return failure, is_own and (failure.voice == self._rank or not self._is_heard())

    def _hear(self, seconds: float) -> Failure | None:
        """The failure that is posted within this time."""
        for _ in _pauses(seconds):
            if self._store.check([_FAILURE]):
                return failure_of(self._store.get(_FAILURE))
        return None

    def _is_heard(self) -> bool:
        return any(self._store.check([_HEARD]) for _ in _pauses(_PATIENCE_SECONDS))

    def _agree_on(self, failure: Failure, store: dist.Store | None = None) -> Failure:
        """The failure that was posted first."""
        store = store or self._store
        return self._take_note(failure_of(store.compare_set(_FAILURE, "", json.dumps(failure))), store)

    def _take_note(self, failure: Failure, store: dist.Store) -> Failure:
        """Says of one that this process should tell that it has heard of it."""
        if failure.voice == self._rank:
            store.set(_HEARD, "1")
        return failure

    def _look(self, store: dist.Store) -> None:
        """Asks the store whether there is a failure, and takes note of those that this process should tell."""
        if self._posted is None and store.check([_FAILURE]):
            self._posted = self._take_note(failure_of(store.get(_FAILURE)), store)

    def _judge(self, of_store: "Asker", of_next: "Asker", store: dist.Store) -> None:
        """Waits for a reason to end this process. It asks nobody who may not answer."""
        while not self._closed.wait(BEAT_SECONDS):
            store_silent, next_silent = of_store.silent_seconds(), of_next.silent_seconds()
            failure = self._posted
            if not failure and next_silent > LOST_AFTER_SECONDS and store_silent < _PATIENCE_SECONDS:
                failure = self._end_of_next(self._lost(is_cut=of_next.is_cut), store)
            if not failure and store_silent > LOST_AFTER_SECONDS:
                failure = self._cut_off(is_cut=of_store.is_cut)
            if failure:
                self._over.set()
                self._end_with(failure)
                return

    def _lost(self, *, is_cut: bool) -> Failure:
        """The next process has ended, or stands still."""
        if is_cut:
            return gone(self._next, self._count, self._rank)
        return still(self._next, self._count, self._rank, seconds=LOST_AFTER_SECONDS)

    def _end_of_next(self, failure: Failure, store: dist.Store) -> Failure | None:
        """What is to be made of it that the next process does not answer any more: nothing, where it is done."""
        try:
            return None if store.check([f"done/{self._next}"]) else self._agree_on(failure, store)
        except RuntimeError:
            return self._cut_off(is_cut=True)

    def _end_with(self, failure: Failure) -> None:
        """Ends the process, unless it comes to its end by itself."""
        if self._closed.wait(_GRACE_SECONDS):
            return
        error = failure.error(self._rank, self._count)
        if not error.is_quiet:
            with suppress(OSError):  # stderr may be gone; Python's own may be silent, where another one speaks
                os.write(2, "".join(f"{line}\n" for line in [f"error: {error.lines[0]}", *error.lines[1:]]).encode())
        os._exit(failure.exit_code)

    def _cut_off(self, *, is_cut: bool) -> Failure:
        """Nobody reaches the store: what each process, or the first on each machine, must tell for itself."""
        voice = self._rank if self._speaks else -1
        if is_cut:
            return gone(0, self._count, voice)
        return still(0, self._count, voice, seconds=LOST_AFTER_SECONDS)


def _pauses(seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield None
        time.sleep(0.05)
