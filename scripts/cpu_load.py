"""How busy other processes keep the processor: speeds measured beside them are not speeds."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

TOO_MUCH = 0.1  # cores; a quiet machine stays below


class _Reading(NamedTuple):
    seconds: float
    busy: float  # seconds of all processes, and of other guests on the same host
    own: float  # seconds of this process and its descendants


class CpuLoad:
    """Watches from its construction on. Linux tells (proc(5)); elsewhere nothing is known."""

    def __init__(self) -> None:
        self._start = _read()

    def others(self) -> float | None:
        """Cores that other processes used, on average; None where nothing is known."""
        now = _read()
        if self._start is None or now is None:
            return None
        busy, own = now.busy - self._start.busy, now.own - self._start.own
        return max(0.0, (busy - own) / max(now.seconds - self._start.seconds, 1e-9))


def warn_of_load(load: CpuLoad, when: str) -> None:
    """Says on stderr that others were busy, if they were."""
    others = load.others()
    if others is not None and others > TOO_MUCH:
        print(f"warning: {when}, other processes kept {others:.1f} cores busy: do not trust this", file=sys.stderr)


def _read() -> _Reading | None:
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        own = _ticks_of_family(os.getpid())
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    per_second = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + irq + softirq + steal
    return _Reading(time.perf_counter(), busy / per_second, own / per_second)


def _ticks_of_family(ancestor: int) -> int:
    """Of a process and all that descend from it, with those that have ended."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # the name before may hold anything
        except OSError:  # it has just ended
            continue
        pid = int(path.parent.name)
        # utime, stime, and those of children that were waited for
        parents[pid], ticks[pid] = int(fields[1]), sum(int(field) for field in fields[11:15])
    family = {ancestor}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(ticks.get(pid, 0) for pid in family)
