"""Processes of a machine prepare its data once and hold it once; machines that see other data are told so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_photos
from sharing import HOSTS, KINDS, NUM_CORES, file_of, options_of, seen_of

from cnntrain.data.prepare import prepare_data
from cnntrain.data.reporter import SILENT
from cnntrain.data.sharing import Memory, made_here
from cnntrain.errors import DeviceError
from cnntrain.runtime.processes import Alone

BOTH = Alone(count=2, local_count=2)  # as the first of two, whose other does the same
RANKS = range(len(HOSTS))


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What each of the processes saw, of the same data and of data that differ."""
    out = tmp_path_factory.mktemp("sharing")
    script = Path(__file__).parent / "sharing.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(out / "cache")}
    subprocess.run([sys.executable, str(script), str(out)], env=environment, check=True, timeout=240)
    return {
        name: [json.loads((out / f"{name}.{rank}.json").read_text()) for rank in RANKS]
        for name in ("same", "differing")
    }


@pytest.mark.parametrize("key", [*KINDS, "test alone"])
def test_all_processes_have_the_same_data(came: dict[str, list[dict[str, Any]]], key: str) -> None:
    first, *others = came["same"]
    assert "error" not in first, first["error"]
    assert [other[key] for other in others] == [first[key]] * len(others)


def test_images_in_memory_are_there_once_for_each_machine(came: dict[str, list[dict[str, Any]]]) -> None:
    for kind in ("memory", "digits"):
        first, second, other_machine = (each[f"{kind}: held"] for each in came["same"])
        assert first == second != ""
        assert first != other_machine != ""
    first, second, other_machine = (each["cache: held"] for each in came["same"])
    assert first == second == other_machine != ""  # a file, since these machines are one


def test_threads_that_decode_are_shared_out_among_the_processes_of_a_machine(
    came: dict[str, list[dict[str, Any]]],
) -> None:
    assert [each["stream: held"] for each in came["same"]] == [NUM_CORES // 2, NUM_CORES // 2, NUM_CORES]


def test_what_is_damaged_in_the_cache_is_mended_by_all_who_read_it_at_once(
    came: dict[str, list[dict[str, Any]]],
) -> None:
    for each in came["same"]:
        items, num_entries = each["mended"]
        assert items == each["memory"]["items"]
        assert num_entries < 2  # what was damaged is gone


def test_a_machine_that_lacks_a_file_is_named_once(came: dict[str, list[dict[str, Any]]]) -> None:
    first, *others = came["differing"]
    assert first["error"] == "DataError"
    assert first["lines"] == [
        "the machines see different data; give all of them the same files:",
        "right has 14 test images, left 15",
    ]
    assert [(other["lines"], other["quiet"]) for other in others] == [(first["lines"], True)] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("anonymous", [True, False])
def test_shared_data_are_those_of_one_process(
    photos: Path, kind: str, anonymous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not anonymous:
        monkeypatch.delattr(os, "memfd_create")
    alone = prepare_data(options_of(photos, kind))
    shared = prepare_data(options_of(photos, kind), processes=BOTH)
    assert seen_of(shared) == seen_of(alone)
    if kind != "stream":
        assert file_of(shared.train).split()[1] != "0"
    for name in ("train", "val", "test"):
        assert getattr(shared, name).positions.equal(getattr(alone, name).positions)


def test_every_array_comes_through_and_large_ones_are_not_copied_into_the_message() -> None:
    large, small = np.arange(12_000).reshape(3, 4000), np.arange(3.0)

    def make(memory: Memory) -> dict[str, Any]:
        own = memory.empty((100, 50))
        own[:] = 7
        values = {"large": large, "turned": large.T, "small": small, "part": own[10:95], "of": SILENT}
        return {**values, "tensor": torch.from_numpy(large), "long": torch.arange(9)}

    packed: list[bytes] = []

    class Watching(Alone):
        def first_here(self, make: Any) -> Any:
            packed.append(make())
            return packed[0]

    made = made_here(make, Watching(count=2, local_count=2), SILENT)
    assert len(packed[0]) < 1500
    for name, expected in make(Memory()).items():
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(made[name], expected)
        elif isinstance(expected, torch.Tensor):
            assert made[name].equal(expected)
    assert made["of"] is SILENT


def test_nothing_stays_open_but_what_is_used() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = open_files()
    made = made_here(lambda memory: [memory.empty((10_000,)), np.zeros(10_000)], BOTH, SILENT)
    assert open_files() == before + 2
    del made
    assert open_files() == before


def test_memory_that_cannot_be_shared_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere(Alone):
        def first_here(self, make: Any) -> Any:
            return make().replace(f"/proc/{os.getpid()}/".encode(), f"/proc/{'0' * len(str(os.getpid()))}/".encode())

    with pytest.raises(
        DeviceError, match=r"the memory of the first process on this machine cannot be shared \(.*one co"
    ):
        made_here(lambda memory: memory.empty((10_000,)), Elsewhere(count=2, local_count=2), SILENT)


def test_images_that_cannot_be_kept_on_disk_are_shared_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnntrain.data.cache.free_space", lambda: 0)
    root = write_photos(photos.parent / "new", {"train": 12})
    shared = prepare_data(options_of(root, "memory"), processes=BOTH)
    assert file_of(shared.train).split()[1] != "0"
    assert seen_of(shared) == seen_of(prepare_data(options_of(root, "memory")))
