"""How much of the machine there is, and whether others use it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cnntrain.runtime import load, machine
from cnntrain.runtime.device import resolve_device
from cnntrain.runtime.load import Contention, describe_contention
from cnntrain.runtime.machine import available_cores, available_memory, peak_memory


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a file of a machine whose control groups are these, and whose process is in /job of each."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "own").write_text("4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/job/step\n")

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")

    return write


@pytest.mark.parametrize("folder", ["", "job/", "job/step/"])
def test_a_process_gets_the_cores_of_its_quota(write: Callable[[str, str], None], folder: str) -> None:
    for text, cores in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64)):
        write(f"{folder}cpu.max", text)
        assert available_cores() == cores


@pytest.mark.parametrize("folder", ["cpu/", "cpu/job/"])
def test_a_process_gets_the_cores_of_its_quota_in_version_1(write: Callable[[str, str], None], folder: str) -> None:
    write(f"{folder}cpu.cfs_period_us", "100000")
    for quota, cores in (("400000", 4), ("-1", 64)):
        write(f"{folder}cpu.cfs_quota_us", quota)
        assert available_cores() == cores


def test_the_strictest_of_several_limits_holds(write: Callable[[str, str], None]) -> None:
    write("cpu.max", "800000 100000")
    write("job/cpu.max", "300000 100000")
    write("job/step/cpu.max", "max 100000")
    assert available_cores() == 3


@pytest.mark.parametrize("name", ["memory.max", "job/step/memory.max", "memory/job/memory.limit_in_bytes"])
def test_a_process_gets_the_memory_of_its_limit(write: Callable[[str, str], None], name: str) -> None:
    physical = available_memory()
    write(name, "1048576")
    assert available_memory() == 1048576
    write(name, "max")
    assert available_memory() == physical


def test_a_process_starts_with_the_threads_of_its_quota(
    write: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = list[int]()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    write("cpu.max", "400000 100000")
    resolve_device("cpu")
    assert chosen == [4]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_peak_memory_is_this_process_s_own() -> None:
    held = np.ones(300 * 2**20, dtype=np.uint8)
    ours = peak_memory()
    script = "from cnntrain.runtime.machine import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert ours is not None
    assert ours > held.nbytes
    assert 0 < child < 200 * 2**20


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not tell who waits for a core")
def test_a_neighbour_on_the_same_core_is_noticed() -> None:
    import os

    core = min(os.sched_getaffinity(0))
    script = f"import os, time; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True: pass"
    before = os.sched_getaffinity(0)
    neighbour = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        os.sched_setaffinity(0, {core})
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        contention = Contention()
        spin(0.5)
        share = contention.share()
    finally:
        neighbour.kill()
        neighbour.communicate()
        os.sched_setaffinity(0, before)
    assert share is not None
    assert share > 0.2


def test_waiting_for_its_own_threads_is_not_blamed_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # In 10 s, 2 cores: 18 s computed and 12 s waited, while others took 2 s.
    readings = iter([load._Reading(0, 0, 0, 0), load._Reading(10, 18, 12, 20)])
    monkeypatch.setattr(load, "_read", lambda: next(readings))
    assert Contention().share() == pytest.approx(2 / 30)


def test_where_the_system_tells_nothing_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_read", lambda: None)
    assert Contention().share() is None
    assert describe_contention(None, 2) is None
    assert describe_contention(0.01, 2) is None
    assert "30%" in (describe_contention(0.3, 2) or "")
    assert "run.threads=1" in (describe_contention(0.3, 2) or "")
    assert "run.threads" not in (describe_contention(0.3, 1) or "run.threads")
