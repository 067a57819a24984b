"""How a process learns, within seconds, that another one has failed, is gone or stands still; and who says so.

All of them look at a store of keys that they share. One thread in each tells that it is alive, and ends its process
where that is blocked in waiting for what will not come.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.distributed as dist

from cnntrain.errors import CnntrainError, Interrupted, OtherProcessError, StorageError, describe_bug
from cnntrain.runtime.names import printable
from cnntrain.runtime.signals import StopSignals

LOST_AFTER_SECONDS = 60.0  # without a sign of life; a process that has ended is noticed at once, by its connections
_BEAT_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0  # for the process itself to say why its connections closed, and for the first to hear it
_GRACE_SECONDS = 8.0  # for a process to come to its end by itself, once it is known that all must end
_FAILURE, _HEARD = "failure", "heard"


class Failure(NamedTuple):
    """What went wrong.

    Attributes:
        rank: Of the process where it did; None where that has ended without a word.
        exit_code: With which all processes end.
        lines: The message.
        voice: The process that tells it.
    """

    rank: int | None
    exit_code: int
    lines: Sequence[str]
    voice: int = 0

    def error(self, rank: int, count: int) -> OtherProcessError:
        """What process `rank` of `count` raises for it."""
        first, *more = self.lines
        which = f"process {self.rank} of {count}: {first}" if self.rank else first
        return OtherProcessError([which, *more], self.exit_code, quiet=rank != self.voice)


class Watch:
    """Looks after the others while it is entered.

    Args:
        store: Which all processes share.
        rank: Of this process.
        count: Of processes.
        hosts: Whether the store ends with this process.
    """

    def __init__(self, store: dist.Store, rank: int, count: int, *, hosts: bool) -> None:
        # The thread has connections of its own: a store answers one question at a time.
        self._store, self._threads_store = store, store.clone()
        self._rank, self._count, self._hosts = rank, count, hosts
        self._closed = threading.Event()
        self._seen: dict[int, tuple[bytes, float]] = {}  # of each process its last sign of life, and since when
        self._handlers: dict[int, Any] = {}  # of signals, before they were ignored
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._store.set(_key(self._rank), "0")
        self._thread.start()

    def close(self) -> None:
        """This process has done its part. Where the store is its own, it waits for the others."""
        try:
            self._store.set(_key(self._rank), _DONE.decode())
            until = time.monotonic() + _PATIENCE_SECONDS
            while self._hosts and set(self._beats(self._store)) != {_DONE} and time.monotonic() < until:
                time.sleep(0.02)
        except RuntimeError:  # who holds the store has ended
            pass
        self._closed.set()
        self._thread.join()
        for number, handler in self._handlers.items():  # of who uses this as a library; a command ends now
            if not isinstance(getattr(handler, "__self__", None), StopSignals):
                signal.signal(number, handler)

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
        except RuntimeError:  # who holds the store has ended, too early to say why
            failure, is_own = _gone([0], self._count), False
        if is_own and self._rank > 0:
            failure = failure._replace(voice=self._rank)  # which it says with its number
        explained = error if is_own and self._rank == 0 else failure.error(self._rank, self._count)
        for note in getattr(error, "__notes__", []) if explained is not error else []:
            explained.add_note(note)
        return explained

    def _settled(self, error: BaseException) -> tuple[Failure, bool]:
        """What all agree on as the failure, and whether it is this process that tells it."""
        if _is_of_connections(error):
            return self._failure_elsewhere(), False
        if isinstance(error, KeyboardInterrupt) and (lost := self._lost()):
            return self._agree_on(_gone(lost, self._count)), False  # torchrun stops the others when one is gone
        if self._rank > 0:
            time.sleep(_BEAT_SECONDS)  # what has befallen all is told by the first
        failure = self._agree_on(_failure_of_error(error, self._rank))
        is_own = failure.rank == self._rank
        return failure, is_own and (failure.voice == self._rank or not self._is_heard())

    def _failure_elsewhere(self) -> Failure:
        """What another process has said of its end; where none has, which of them are gone."""
        for _ in _pauses(_PATIENCE_SECONDS):
            if failure := self._failure(self._store):
                return failure
        return self._agree_on(_gone(self._lost(), self._count))

    def _lost(self) -> list[int]:
        """Which processes give no sign of life any more."""
        before = self._beats(self._store)
        time.sleep(3 * _BEAT_SECONDS)
        after = self._beats(self._store)
        return [rank for rank in range(self._count) if before[rank] == after[rank] != _DONE]

    def _agree_on(self, failure: Failure) -> Failure:
        """The failure that was posted first."""
        return _failure_of(self._store.compare_set(_FAILURE, "", json.dumps(failure)))

    def _is_heard(self) -> bool:
        return any(self._store.check([_HEARD]) for _ in _pauses(_PATIENCE_SECONDS))

    def _look(self) -> None:
        beat, store = 0, self._threads_store
        while not self._closed.wait(_BEAT_SECONDS):
            beat += 1
            try:
                store.set(_key(self._rank), str(beat))
                failure = self._failure(store) or self._silent(store)
            except RuntimeError:  # the store is gone with who held it
                failure = _gone([0], self._count)
            if failure:
                self._end_with(failure, store)
                return

    def _silent(self, store: dist.Store) -> Failure | None:
        """The first looks at all processes, the second at the first."""
        if self._rank > 1:
            return None
        now = time.monotonic()
        for rank, beat in enumerate(self._beats(store)):
            watched = rank > 0 if self._rank == 0 else rank == 0
            last, since = self._seen.get(rank, (b"", now))
            if not watched or beat == _DONE or beat != last:
                self._seen[rank] = beat, now
            elif now - since > LOST_AFTER_SECONDS:
                return _failure_of(store.compare_set(_FAILURE, "", json.dumps(_still(rank, self._count))))
        return None

    def _end_with(self, failure: Failure, store: dist.Store) -> None:
        """Ends the process, unless it comes to its end by itself."""
        if self._rank == failure.voice:
            store.set(_HEARD, "1")
        if self._closed.wait(_GRACE_SECONDS):
            return
        error = failure.error(self._rank, self._count)
        if not error.is_quiet:
            sys.stderr.write("".join(f"{line}\n" for line in [f"error: {error.lines[0]}", *error.lines[1:]]))
            sys.stderr.flush()
        os._exit(failure.exit_code)

    def _failure(self, store: dist.Store) -> Failure | None:
        return _failure_of(store.get(_FAILURE)) if store.check([_FAILURE]) else None

    def _beats(self, store: dist.Store) -> list[bytes]:
        return store.multi_get([_key(rank) for rank in range(self._count)])


_DONE = b"done"  # in place of a sign of life


def _key(rank: int) -> str:
    return f"alive/{rank}"


def _pauses(seconds: float) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield None
        time.sleep(0.05)


def _failure_of_error(error: BaseException, rank: int) -> Failure:
    if isinstance(error, CnntrainError):
        return Failure(rank, error.exit_code, list(error.lines))
    if isinstance(error, KeyboardInterrupt):
        return Failure(rank, getattr(error, "exit_code", Interrupted.exit_code), [str(error) or "interrupted"])
    if isinstance(error, OSError):
        return Failure(rank, StorageError.exit_code, [printable(error)])
    # Of bugs there is more to tell, which the process itself knows.
    return Failure(rank, CnntrainError.exit_code, [printable(describe_bug(error))], voice=rank)


def _is_of_connections(error: BaseException) -> bool:
    """Whether an error is about the others, not about this process: PyTorch has no class for Gloo's."""
    if isinstance(error, dist.DistError):
        return True
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def _failure_of(text: bytes) -> Failure:
    return Failure(*json.loads(text))


def _gone(ranks: Sequence[int], count: int) -> Failure:
    which = f"{'process' if len(ranks) == 1 else 'processes'} {', '.join(map(str, ranks))}" if ranks else "a process"
    text = f"{which} of {count} ended without a word: killed, perhaps for want of memory, or the machine is gone"
    return Failure(None, OtherProcessError.exit_code, [text], voice=min(set(range(count)) - set(ranks), default=0))


def _still(rank: int, count: int) -> Failure:
    text = f"process {rank} of {count} has given no sign of life for {LOST_AFTER_SECONDS:.0f} s: stopped, or cut off"
    return Failure(None, OtherProcessError.exit_code, [text], voice=int(rank == 0))
