"""How much of the machine this process may use: a container often gets less than there is."""

import math
import os
from pathlib import Path

# Where Linux tells of a container's limits: control groups, version 2 and 1.
_CPU_LIMIT, _CPU_QUOTA, _CPU_PERIOD = (
    Path("/sys/fs/cgroup") / name for name in ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
)
_MEMORY_LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_cores() -> int:
    """Cores that this process may keep busy, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = (_read(_CPU_LIMIT) or f"{_read(_CPU_QUOTA)} {_read(_CPU_PERIOD)}").split()
    if len(limit) != 2 or not all(part.isdigit() for part in limit):  # `max` or -1: no limit
        return cores
    quota, period = map(int, limit)
    return max(1, min(cores, quota // period))


def available_memory() -> float:
    """Bytes of memory that this process may fill; infinity where the system does not tell.

    Physical memory, because what is "free" at the moment leaves out the file cache, which gives way.
    """
    known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= getattr(os, "sysconf_names", {}).keys()
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else math.inf
    limits = [int(text) for path in _MEMORY_LIMITS if (text := _read(path)).isdigit()]
    return min([physical, *limits])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
