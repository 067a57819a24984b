"""How much of the machine this process may use: a container often gets less than there is."""

import math
import os
import platform
from pathlib import Path

_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores that this process may keep busy, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for text in [*_limits("", "cpu.max"), *_limits("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")]:
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():  # else `max` or -1: no limit
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def available_memory() -> float:
    """Bytes of memory that this process may fill; infinity where the system does not tell.

    Physical memory, because what is "free" at the moment leaves out the file cache, which gives way.
    """
    known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= getattr(os, "sysconf_names", {}).keys()
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else math.inf
    limits = [*_limits("", "memory.max"), *_limits("memory", "memory.limit_in_bytes")]
    return min([physical, *(int(text) for text in limits if text.isdigit())])


def processor_name() -> str:
    """What the processor is called, such as `AMD EPYC 9B14`."""
    lines = (line.partition(":") for line in _read(Path("/proc/cpuinfo")).splitlines())
    names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """Bytes of memory that this process has used at most, at one time; None where the system does not tell."""
    try:
        # Not what getrusage says: that begins with what the parent process had used when it started this one.
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _limits(controller: str, *names: str) -> list[str]:
    """What Linux's control groups say, from this process's own up to the root.

    Args:
        controller: Of version 1; empty for version 2, where all share one tree.
        names: Files, whose contents are joined.
    """
    own = [line.split(":", 2) for line in _read(_OWN_CGROUPS).splitlines()]
    paths = [Path(path.lstrip("/")) for _, controllers, path in own if controller in controllers.split(",")] or [Path()]
    folders = [_CGROUPS / controller / folder for path in paths for folder in (path, *path.parents)]
    return [" ".join(_read(folder / name) for name in names).strip() for folder in dict.fromkeys(folders)]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
