"""Two machines of two processes each: network namespaces with a cable between them, and torchrun in each."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from agents import is_alive
from harness import CONFIG, FULL, outcome, report
from PIL import Image

pytestmark = pytest.mark.skipif(not FULL, reason="takes two minutes: scripts/torture runs it")
NAMES = tuple(f"cnntrain-{os.getpid()}-{letter}" for letter in "ab")
PHOTOS = CONFIG.replace("{source: digits, ", "{source: image_folder, root: photos, ")


class Machine(NamedTuple):
    """One of the two; where there may be no network namespaces, both are this machine.

    Attributes:
        prefix: Of a command that it runs.
    """

    prefix: list[str]
    address: str
    interface: str


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Machine]]:
    first, second = NAMES
    cable = ["link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second]
    made = [Machine(["ip", "netns", "exec", name], f"10.77.0.{n}", "cable") for n, name in enumerate(NAMES, start=1)]
    try:
        connected = all(ip("netns", "add", name) for name in NAMES) and ip(*cable)
        for machine, name in zip(made, NAMES, strict=True):
            connected = connected and ip("-n", name, "addr", "add", f"{machine.address}/24", "dev", "cable")
            connected = connected and all(ip("-n", name, "link", "set", device, "up") for device in ("cable", "lo"))
        yield made if connected else [Machine([], "127.0.0.1", "lo")] * 2
    finally:
        for name in NAMES:
            ip("netns", "del", name)


def ip(*arguments: str) -> bool:
    return bool(shutil.which("ip")) and not subprocess.run(["ip", *arguments], capture_output=True).returncode


@pytest.fixture
def two(machines: list[Machine]) -> list[Machine]:
    if machines[0] == machines[1]:
        pytest.skip("network namespaces need ip, and root")
    return machines


@contextmanager
def started(machines: list[Machine], folders: list[Path], *arguments: object) -> Iterator[list[subprocess.Popen[str]]]:
    """torchrun with two processes on each machine, in a folder of its own."""
    agents, port = list[subprocess.Popen[str]](), free_port()
    for machine, folder in zip(machines, folders, strict=True):
        command = [
            *machine.prefix, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2",
            "--rdzv-backend", "c10d", "--rdzv-id", "two", "--rdzv-endpoint", f"{machines[0].address}:{port}",
            "--rdzv-conf", f"is_host={not agents}".lower(), "--local-addr", machine.address,
            "-m", "cnntrain", *map(str, arguments),
        ]  # fmt: skip
        environment = os.environ | {"GLOO_SOCKET_IFNAME": machine.interface, "OMP_NUM_THREADS": "1"}
        agents.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        yield agents
    finally:
        for agent in agents:
            agent.kill()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def said(agent: subprocess.Popen[str]) -> str:
    return agent.communicate(timeout=120)[0]


def workers(agent: subprocess.Popen[str]) -> list[str]:
    """The numbers of its processes that have not ended."""
    try:
        lists = [task.read_text() for task in Path(f"/proc/{agent.pid}/task").glob("*/children")]
    except OSError:  # a thread has just ended
        return ["?"]
    return [number for numbers in lists for number in numbers.split() if is_alive(int(number))]


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    first, second = (tmp_path / letter for letter in "ab")
    for number in range(40):
        path = first / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (first / "small.yaml").write_text(CONFIG)
    (first / "photos.yaml").write_text(PHOTOS)
    shutil.copytree(first, second)
    return [first, second]


def test_two_machines_learn_what_one_does(machines: list[Machine], folders: list[Path], tmp_path: Path) -> None:
    outcomes = {}
    for name, settings in (("plain", []), ("shards", ["--set", "recipe.shards=4"])):
        output = tmp_path / f"{name} two"
        with started(machines, folders, "train", "small.yaml", "--output", output, *settings) as agents:
            first, second = (said(agent) for agent in agents)
        assert not any(agent.returncode for agent in agents), first + second
        assert ("epoch 1/4" in first) != ("epoch 1/4" in second)  # one voice
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
        command += ["-m", "cnntrain", "train", "small.yaml", "--output", str(tmp_path / f"{name} one"), *settings]
        subprocess.run(command, cwd=folders[0], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
        outcomes[name] = [outcome(tmp_path / f"{name} {number}") for number in ("two", "one")]
    two, one = outcomes["shards"]
    assert two == one
    two, one = outcomes["plain"]
    losses = [[epoch["train"]["loss"] for epoch in each["metrics"]] for each in (two, one)]
    apart = max(abs(this / that - 1) for this, that in zip(*losses, strict=True))
    assert apart < 1e-5
    where = "network namespaces" if machines[0].prefix else "both 127.0.0.1"
    report(
        f"two machines ({where}) of 2 processes each, against 4 on one machine",
        f"losses within {apart:.0e}; with `recipe.shards: 4` the same to the last bit",
    )


def test_a_file_that_is_missing_on_the_second_machine_is_named_and_ends_both(
    two: list[Machine], folders: list[Path], tmp_path: Path
) -> None:
    (folders[1] / "photos" / "cat" / "4.png").unlink()
    with started(two, folders, "train", "photos.yaml", "--output", tmp_path / "runs") as agents:
        first, second = (said(agent) for agent in agents)
    assert all(agent.returncode for agent in agents)
    assert len(errors(first) + errors(second)) == 1, first + second
    assert "the machines see different data" in first + second
    report("a file missing on the second of two machines", "one message, both end")


def test_a_cable_that_is_cut_ends_both_machines(two: list[Machine], folders: list[Path], tmp_path: Path) -> None:
    arguments = ["--set", "recipe.epochs=100000", "--set", "recipe.early_stopping=null"]
    with started(two, folders, "train", "small.yaml", "--output", tmp_path / "runs", *arguments) as agents:
        while not list(tmp_path.glob("runs/*/*/checkpoints/*.pt")):
            assert all(agent.poll() is None for agent in agents)
        assert ip("-n", NAMES[0], "link", "set", "cable", "down")
        since = time.monotonic()
        while any(workers(agent) for agent in agents):
            assert time.monotonic() - since < 75
            time.sleep(0.1)
        took = time.monotonic() - since
        for agent in agents:
            agent.kill()  # torchrun itself waits for minutes for an answer
        texts = [said(agent) for agent in agents]
    assert all(len(errors(text)) == 1 for text in texts), texts  # each must tell, for neither hears the other
    report("the network between two machines is cut", f"both end after {took:.0f} s, each with one message")
