"""Whether other processes get in the way: a busy neighbour takes a two-thread training to a third of its speed."""

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple


class _Reading(NamedTuple):
    at: float  # seconds, as all that follows
    running: float
    waiting: float
    machine_busy: float


class Contention:
    """How long this process wanted to compute and had to wait, because other processes held the cores.

    Linux tells (proc(5): /proc/PID/task/TID/schedstat and /proc/stat); elsewhere nothing is known.
    """

    def __init__(self) -> None:
        self._start = _read()

    def share(self) -> float | None:
        """Time waited / time computed or waited, in [0, 1], since the object was made; None where nothing is known."""
        now = _read()
        if self._start is None or now is None:
            return None
        running, waiting = now.running - self._start.running, max(0.0, now.waiting - self._start.waiting)
        others = now.machine_busy - self._start.machine_busy - running
        if others < 0.1 * (now.at - self._start.at):  # a quiet machine: its threads waited for one another
            return 0.0
        # Its threads also wait for one another, but for others never longer than those computed.
        return min(waiting, others) / max(running + waiting, 1e-9)


def describe_contention(share: float | None, num_threads: int) -> str | None:
    """A sentence for the user, where it matters: from a twentieth on; with advice where there are threads to save."""
    if share is None or share < 0.05:
        return None
    advice = " (where that lasts, fewer threads are faster: --set run.threads=1)" if num_threads > 1 else ""
    who = f"other processes held the processor for {share:.0%} of the time that this one wanted it"
    return f"{who}; speeds are low{advice}"


def _read() -> _Reading | None:
    try:
        ticks = [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        tasks = list(Path("/proc/self/task").iterdir())
    except OSError:
        return None
    running = waiting = 0
    for task in tasks:
        with contextlib.suppress(OSError, ValueError):  # a thread that has just ended
            run, wait, _ = (task / "schedstat").read_text().split()
            running, waiting = running + int(run), waiting + int(wait)
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return _Reading(time.perf_counter(), running / 1e9, waiting / 1e9, busy) if running else None
