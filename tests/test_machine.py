"""How much of the machine there is, and whether others use it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnntrain.runtime import load, machine
from cnntrain.runtime.load import Contention, describe_contention
from cnntrain.runtime.machine import available_cores, available_memory


def test_a_container_gets_the_cores_of_its_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(machine, "_CPU_LIMIT", tmp_path / "cpu.max")
    for text, cores in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64)):
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert available_cores() == cores
    monkeypatch.setattr(machine, "_CPU_LIMIT", tmp_path / "none")
    for quota, cores in (("400000", 4), ("-1", 64)):
        monkeypatch.setattr(machine, "_CPU_QUOTA", tmp_path / "quota")
        monkeypatch.setattr(machine, "_CPU_PERIOD", tmp_path / "period")
        (tmp_path / "quota").write_text(quota)
        (tmp_path / "period").write_text("100000")
        assert available_cores() == cores


def test_a_container_gets_the_memory_of_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    physical = available_memory()
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (tmp_path / "memory.max",))
    (tmp_path / "memory.max").write_text("1048576\n")
    assert available_memory() == 1048576
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() >= physical


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


def test_where_the_system_tells_nothing_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_read", lambda: None)
    assert Contention().share() is None
    assert describe_contention(None) is None
    assert describe_contention(0.01) is None
    assert "30%" in (describe_contention(0.3) or "")
