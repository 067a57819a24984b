"""Processes of one machine that tell each other numbers through memory that they share.

Between two processes Gloo takes a third of a millisecond for the smallest message, by sockets and several threads; this
takes a quarter of that, or less (`scripts/estimate_scaling`). Numbers are added up in the order of the processes, so
that every one of them has the same sum.
"""

import mmap
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import torch
import torch.distributed as dist
from torch import Tensor

from cnntrain.runtime.processes import Processes
from cnntrain.runtime.shared_files import anonymous_file, inode_of, opened, path_for_others

ROOM = 4 * 2**20  # bytes that a process can tell at once; what is longer takes several turns
# A process's own cache line: how often it has told and was asked, what it answered last, how much it told last.
_LINE, _ASKED, _ANSWERS, _NUM_ANSWERS, _SIZES = 8, 1, 2, 4, 6
_HASTY_LOOKS, _YIELDING_SECONDS, _PAUSE_SECONDS = 100, 2e-3, 1e-4


class Neighbours:
    """This process and the others of its machine; all call the methods alike.

    Args:
        memory: Which all of them have mapped.
        rank: Of this process.
        count: Of processes.
        is_over: Whether one of the others has failed, or is gone.
        patience_seconds: That one waits for another that is alive.
    """

    def __init__(
        self, memory: mmap.mmap, rank: int, count: int, *, is_over: Callable[[], bool], patience_seconds: float
    ) -> None:
        self._rank, self._count, self._is_over, self._patience = rank, count, is_over, patience_seconds
        size = _size_of_lines(count)
        self._numbers = memoryview(memory)[:size].cast("q")
        self._own = rank * _LINE
        self._others = [other * _LINE for other in range(count) if other != rank]
        self._rooms = torch.frombuffer(memory, dtype=torch.uint8, offset=size).view(2, count, ROOM)
        self._times_told = self._times_asked = 0

    def add_up(self, values: Tensor) -> None:
        """Puts the sums over all processes in the place of values, which are on the host: contiguous, (N,)."""
        for own in values.split(ROOM // values.itemsize):
            of_all = self._told(own)
            torch.add(of_all[0], of_all[1], out=own)
            for other in of_all[2:]:
                own += other

    def stack(self, values: Tensor) -> Tensor:
        """The values of all processes, which are on the host: contiguous, (N,) -> (count, N)."""
        return torch.cat([self._told(own).clone() for own in values.split(ROOM // values.itemsize)], dim=1)

    def _told(self, own: Tensor) -> Tensor:
        """What all tell at this turn; the others may write over it in the turn after the next."""
        self._times_told += 1
        of_all = self._rooms[self._times_told % 2, :, : own.nbytes].view(own.dtype)
        of_all[self._rank].copy_(own)
        size = _SIZES + self._times_told % 2
        self._numbers[self._own + size] = own.nbytes
        self._numbers[self._own] = self._times_told
        self._wait(0, self._times_told)
        if any(self._numbers[line + size] != own.nbytes for line in self._others):
            raise RuntimeError("processes are out of step: they tell each other different things")
        return of_all

    def soon(self, number: int) -> int:
        """See `Processes.soon`."""
        before, self._times_asked = self._times_asked, self._times_asked + 1
        self._numbers[self._own + _ANSWERS + self._times_asked % _NUM_ANSWERS] = number
        self._numbers[self._own + _ASKED] = self._times_asked
        self._wait(_ASKED, before)
        at = _ANSWERS + before % _NUM_ANSWERS
        return max(self._numbers[line + at] for line in (self._own, *self._others)) if before else 0

    def _wait(self, what: int, times: int) -> None:
        """Until all have counted so far: hastily at first, for most are there soon; then it lets others compute."""
        for line in self._others:
            looks, since, paused = 0, 0.0, 0.0
            while self._numbers[line + what] < times:
                looks += 1
                if looks < _HASTY_LOOKS:
                    continue
                since = since or time.monotonic()
                if time.monotonic() - since < _YIELDING_SECONDS:
                    os.sched_yield()
                elif self._is_over() or paused > self._patience:  # no time in which this process was stopped itself
                    raise dist.DistNetworkError(f"process {line // _LINE} does not answer")
                else:
                    time.sleep(_PAUSE_SECONDS)
                    paused += _PAUSE_SECONDS


def neighbours(processes: Processes, *, is_over: Callable[[], bool], patience_seconds: float) -> Neighbours | None:
    """Connects processes, all of one machine; None where they cannot share memory.

    Only on x86: elsewhere a number may be seen before those that were written before it, and Python has no fence.

    Args:
        processes: All there are.
        is_over: See `Neighbours`.
        patience_seconds: See `Neighbours`.
    """
    if processes.any(sys.platform != "linux" or platform.machine() != "x86_64"):
        return None
    with ExitStack() as open_here:

        def make() -> tuple[str, int]:
            with suppress(OSError):
                file = open_here.enter_context(anonymous_file())
                file.truncate(size_of_memory(processes.count))
                path = path_for_others(file.fileno(), str(file.name))
                return path, inode_of(path)
            return "", 0

        path, inode = processes.first(make)
        memory = None
        with suppress(OSError), opened(path, inode, "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        cannot = processes.any(memory is None)  # before the first one closes it
    if cannot or memory is None:
        return None
    return Neighbours(memory, processes.rank, processes.count, is_over=is_over, patience_seconds=patience_seconds)


def size_of_memory(count: int) -> int:
    """Bytes that so many processes share."""
    return _size_of_lines(count) + 2 * count * ROOM


def _size_of_lines(count: int) -> int:
    """Bytes, whole pages."""
    return -(-8 * _LINE * count // mmap.PAGESIZE) * mmap.PAGESIZE
