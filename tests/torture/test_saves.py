"""A save that is cut off anywhere, by whatever, leaves the checkpoint before it or the one it was writing."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import FULL, HERE, Server, amount, report, serving

from cnntrain.errors import CheckpointError
from cnntrain.models.weights_file import read_tensors
from cnntrain.runs.checkpoints import newest_training

CALLS = ("openat", "write", "fsync", "rename", "unlink", "close")


class SavingServer:
    """Saves checkpoints under strace."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "saving_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def save(self, folder: Path, step: int, *, careless: bool = False, inject: str = "") -> int:
        """How the process that saved ended: 0, or -9 where the injected signal met it."""
        assert self._process.stdin
        assert self._process.stdout
        order = {"folder": str(folder), "step": step, "careless": careless}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        tracer = None
        if inject:
            tracer = subprocess.Popen(
                ["strace", "-p", str(child), "-e", f"trace={inject.partition(':')[0]}", "-e", f"inject={inject}"],
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert tracer.stderr
            assert "attached" in tracer.stderr.readline()
        os.kill(child, signal.SIGCONT)
        status = int(self._process.stdout.readline())
        if tracer:
            tracer.communicate()
        return status

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def saving() -> Iterator[SavingServer]:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("this system does not let one process trace another")
    server = SavingServer()
    yield server
    server.close()


def sites(
    saving: SavingServer, folder: Path, make: Callable[[int], None], *, step: int, careless: bool
) -> Iterator[str]:
    """Saves again and again from the same beginning, killed at each system call in turn; yields where."""
    for call in CALLS:
        for number in range(1, 200):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(number)
            if saving.save(folder, step, careless=careless, inject=f"{call}:signal=KILL:when={number}") == 0:
                break
            yield f"{call} {number}"
            if not FULL and number >= 3:
                break


def loads(folder: Path, allowed: set[int]) -> bool:
    """Whether the newest whole training checkpoint is one of these steps, and best.safetensors is whole."""
    try:
        saved = newest_training(folder, lambda _: None)
        best, _ = read_tensors(folder / "best.safetensors") if (folder / "best.safetensors").exists() else ({}, None)
    except CheckpointError:
        return False
    found = saved.state["step"] if saved else 0
    whole = saved is None or all(bool((value == found).all()) for value in saved.state["model"].values())
    return found in allowed and whole and (not best or best["weight"].shape[1] in allowed)


@pytest.mark.parametrize(("before", "step"), [([], 1), ([1], 2), ([1, 2], 3), ([1, 2], 2)])
def test_killed_at_any_system_call_a_save_leaves_the_old_checkpoint_or_the_new(
    saving: SavingServer, tmp_path: Path, before: list[int], step: int
) -> None:
    folder, count = tmp_path / "checkpoints", 0

    def make(_: int) -> None:
        for earlier in before:
            assert saving.save(folder, earlier) == 0

    for site in sites(saving, folder, make, step=step, careless=False):
        count += 1
        assert loads(folder, {before[-1] if before else 0, step}), f"killed at {site}"
        assert saving.save(folder, step) == 0
        assert loads(folder, {step}), f"saved again after {site}"
    assert count > 10
    report(f"kill at every system call of a save, {len(before)} saved before, step {step}", f"{count} sites: all load")


def test_the_same_finds_what_a_careless_writer_loses(saving: SavingServer, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    def make(_: int) -> None:
        assert saving.save(folder, 1, careless=True) == 0

    lost = [site for site in sites(saving, folder, make, step=2, careless=True) if not loads(folder, {1, 2})]
    assert lost
    report("the same against a careless writer", f"found out, at {len(lost)} sites such as {lost[0]}")


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"][: amount(1, 2)])
def test_a_system_call_that_fails_leaves_the_checkpoint_before(
    saving: SavingServer, tmp_path: Path, error: str
) -> None:
    folder, count = tmp_path / "checkpoints", 0
    for call in ("write", "fsync", "rename", "openat"):
        for number in range(1, amount(3, 20)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            assert saving.save(folder, 1) == 0
            status = saving.save(folder, 2, inject=f"{call}:error={error}:when={number}")
            assert loads(folder, {1, 2}), f"{error} at {call} {number}"
            count += status != 0
    assert count
    report(f"{error} injected into a save", f"{count} failed saves: the checkpoint before loads")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system for the length of a test."""
    points: list[Path] = []

    def mount(*options: str) -> Path:
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        tried = subprocess.run(["mount", *options, str(point)], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"nothing can be mounted here: {tried.stderr.strip()}")
        points.append(point)
        return point

    if not shutil.which("mount"):
        pytest.skip("this system has no mount")
    yield mount
    for point in points:
        subprocess.run(["umount", "-l", str(point)], check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory) as made:
        yield made


def test_a_full_disk_ends_with_one_message_and_the_checkpoint_before(
    server: Server, mounted: Callable[..., Path]
) -> None:
    stopped, count = 0, amount(2, 20)
    for number in range(count):
        size = 4 + 16 * number * 20 // count  # KiB; the run takes 300
        disk = mounted("-t", "tmpfs", "-o", f"size={size}k", "tmpfs")
        ended = server.run("train", "small.yaml", "--output", disk)
        assert ended.status in (0, 7), ended.text
        assert "Traceback" not in ended.text
        for folder in disk.glob("*/*/checkpoints"):
            newest_training(folder, lambda _: None)
        stopped += ended.status == 7
    assert stopped
    report("disk full", f"{count} sizes of a tmpfs, {stopped} of them too small: exit 7, no traceback, all whole")


def test_a_loss_of_power_loses_no_acknowledged_checkpoint(
    server: Server, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    disk, rng, snapshots = mounted("-o", "loop", str(image)), random.Random(3), 0
    wanted = amount(2, 50)
    while snapshots < wanted:
        shutil.rmtree(disk / "runs", ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "cnntrain",
            "train",
            str(server.folder / "small.yaml"),
            "--output",
            str(disk / "runs"),
        ]
        command += ["--set", "recipe.epochs=100000", "--set", "recipe.early_stopping=null"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                while not list(disk.glob("runs/*/*/checkpoints/*.json")):
                    time.sleep(0.05)
                    assert process.poll() is None
                for _ in range(min(10, wanted - snapshots)):
                    time.sleep(rng.uniform(0, 0.5))
                    process.send_signal(signal.SIGSTOP)  # or the copy would be of no one moment
                    manifests = disk.glob("runs/*/*/checkpoints/step-*.json")
                    # The newest may be there and its folder not yet written; the one before was, or it were not there.
                    acknowledged = sorted(int(path.stem[5:]) for path in manifests)[:-1]
                    copy = tmp_path / "copy.img"
                    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
                    process.send_signal(signal.SIGCONT)
                    after = mounted("-o", "loop", str(copy))
                    [folder] = after.glob("runs/*/*/checkpoints")
                    saved = newest_training(folder, lambda _: None)
                    assert saved or not acknowledged, f"step {acknowledged[-1]} was acknowledged, and nothing is left"
                    assert not acknowledged or (saved and saved.state["step"] >= acknowledged[-1])
                    best = folder / "best.safetensors"
                    assert not best.exists() or read_tensors(best)
                    subprocess.run(["umount", str(after)], check=True)
                    snapshots += 1
            finally:  # else leaving the block would wait for a training that nobody stops
                process.kill()
    report("loss of power (ext4 on a loop device)", f"{snapshots} snapshots: no acknowledged checkpoint lost")
