"""Several processes, of which some are killed, told to stop, or meet with something.

A training that goes on ends as if nothing had happened; one that cannot ends in all, with one message and one exit code.
"""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agents, agents_in, errors, is_alive, wait_a_moment
from harness import FULL, amount, outcome, report

from cnntrain.runs.checkpoints import newest_training

TERM, KILL = signal.SIGTERM, signal.SIGKILL
IN_FULL = pytest.mark.skipif(not FULL, reason="scripts/torture runs it")
COUNTS = [3, 2][: amount(1, 2)]  # from 3 on the order of a sum matters
LONG = ["--set", "recipe.epochs=100000", "--set", "recipe.early_stopping=null"]

# What each process does before it begins, by what it comes to.
NAN = """
import math
from cnntrain.training import loop
cut = loop.cut_up
if rank == 1:
    loop.cut_up = lambda *arguments: [(images * math.nan, targets) for images, targets in cut(*arguments)]
"""
BUG = """
from cnntrain.training import loop
def raise_it(*_): raise LookupError("what nobody thought of")
if rank == {rank}: loop.cut_up = raise_it
"""
SLOW = """
import ctypes
from cnntrain.training import loop
cut, waited = loop.cut_up, []
def wait(*arguments):
    if rank == {rank} and not waited:
        waited.append(1)
        ctypes.PyDLL(None).sleep({seconds})  # without letting any other thread go on
    return cut(*arguments)
loop.cut_up = wait
"""
UNREADABLE = """
from cnntrain.errors import DataError
from cnntrain.training import loop
def refuse(*_): raise DataError("cat/3.png cannot be read: no such file")
if rank == 1: loop.cut_up = refuse
"""


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    with agents_in(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def uninterrupted(agents: Agents) -> dict[int, tuple[dict[str, Any], float]]:
    """What comes out, and how long it takes, by the number of processes."""
    whole = {}
    for count in COUNTS:
        ended = agents.run("train", "small.yaml", "--output", f"whole{count}", count=count)
        assert ended.status == 0, ended.text
        whole[count] = outcome(agents.folder / f"whole{count}"), ended.seconds
    return whole


def test_killed_processes_are_started_anew_and_end_as_if_they_had_not_been(
    agents: Agents, uninterrupted: dict[int, tuple[dict[str, Any], float]]
) -> None:
    rng, kills, runs = random.Random(0), 0, 0
    while kills < amount(2, 50):
        count, output = rng.choice(COUNTS), agents.folder / f"killed{runs}"
        expected, duration = uninterrupted[count]
        with agents.start("train", "small.yaml", "--output", output, count=count, restarts=5) as agent:
            for again in range(2):
                wait_a_moment(rng, duration) if runs or again else agent.until("val loss")
                workers = agent.workers()
                victims = rng.sample(workers, min(1, len(workers)))  # between two starts there are none
                agent.send(KILL, victims)
                kills += len(victims)
            ended = agent.wait()
        assert ended.status == 0, ended.text
        assert len(errors(ended)) <= 2, ended.text
        assert outcome(output) == expected, ended.text
        runs += 1
    report(
        "`kill -9` of one of 2 or 3 processes under `--max-restarts`",
        f"{kills} kills over {runs} runs, each in one run folder: 0 differing weights",
    )


def test_a_signal_to_one_or_all_saves_once_and_what_goes_on_ends_as_if_it_had_not_been(
    agents: Agents, uninterrupted: dict[int, tuple[dict[str, Any], float]]
) -> None:
    rng, runs, stopped = random.Random(1), amount(2, 50), 0
    for number in range(runs):
        count, output = rng.choice(COUNTS), agents.folder / f"signal{number}"
        expected, duration = uninterrupted[count]
        with agents.start("train", "small.yaml", "--output", output, count=count) as agent:
            wait_a_moment(rng, duration) if number else agent.until("val loss")
            workers = agent.workers()
            to = [workers[-1:], workers, workers[:1], [agent.pid]][number % 4]
            agent.send(TERM, to)
            ended = agent.wait()
        of_torchrun = {1, -TERM} if to == [agent.pid] else set()
        too_early = set() if list(output.glob("*/*")) else {128 + TERM}  # before Python listens
        assert ended.status in {0, 75} | of_torchrun | too_early, ended.text
        if ended.status == 75:
            stopped += 1
            # Who has not met the others yet cannot know that another one has told it.
            assert len(errors(ended)) <= (1 if list(output.glob("*/*")) else count), ended.text
            assert "stopped by SIGTERM" in ended.text or "run folder" in ended.text  # when all was done
            if list(output.glob("*/*/checkpoints/*")) and not list(output.glob("*/*/results.json")):
                assert ended.text.count("go on with it: ") == 1, ended.text
        ended = agents.run("train", "small.yaml", "--resume", "--output", output, count=count)
        assert ended.status == 0, ended.text
        assert outcome(output) == expected
    assert stopped
    report(
        "SIGTERM to one of 2 or 3 processes, to all, or to torchrun",
        f"{runs} signals, {stopped} in time: one message, exit 75, gone on with, 0 differing weights",
    )


def test_with_shards_a_training_goes_on_on_another_number_of_processes_to_the_last_bit(agents: Agents) -> None:
    rng, stopped, sharded = random.Random(2), 0, ("--set", "recipe.shards=4")
    ended = agents.run("train", "small.yaml", *sharded, "--output", "sharded", count=4)
    expected, duration = outcome(agents.folder / "sharded"), ended.seconds
    for number in range(runs := amount(1, 20)):
        output = agents.folder / f"sharded{number}"
        before, after = rng.sample((1, 2, 4), 2) if number else (4, 2)
        with agents.start("train", "small.yaml", *sharded, "--output", output, count=before) as agent:
            wait_a_moment(rng, duration) if number else agent.until("val loss")
            agent.send(TERM, agent.workers())
            stopped += agent.wait().status == 75
        ended = agents.run("train", "small.yaml", *sharded, "--resume", "--output", output, count=after)
        assert ended.status == 0, ended.text
        assert "number of processes" not in ended.text
        assert outcome(output) == expected, (before, after)
    assert stopped
    report(
        "`recipe.shards: 4`, stopped on 1, 2 or 4 processes and gone on with on another number",
        f"{runs} runs, {stopped} stopped in time: 0 differing weights",
    )


def test_going_on_on_another_number_of_processes_says_what_may_differ(agents: Agents) -> None:
    with agents.start("train", "small.yaml", "--output", "other") as agent:
        agent.until("val loss")
        agent.send(TERM, agent.workers())
        assert agent.wait().status == 75
    ended = agents.run("train", "small.yaml", "--resume", "--output", "other", count=1)
    [note] = [line for line in ended.text.splitlines() if "number of processes" in line]
    assert "the number of processes was 2 and is 1: the last digits may differ" in note, ended.text


def test_a_process_that_stands_still_is_noticed_and_all_end_with_one_message(agents: Agents) -> None:
    slowest, lost_after = 0.0, 2
    ranks = [(1, 2), (0, 2), (0, 3), (1, 3), (2, 3)] * amount(1, 4)
    for number, (rank, count) in enumerate(ranks[: amount(1, 20)]):
        arguments = ("train", "small.yaml", "--output", f"frozen{number}", *LONG)
        with agents.start(*arguments, count=count, lost_after=lost_after) as agent:
            agent.until("val loss")
            others = agent.workers()
            frozen = others.pop(rank)
            since = time.monotonic()
            agent.send(signal.SIGSTOP, [frozen])
            agent.until("has given no sign of life")
            slowest = max(slowest, time.monotonic() - since)
            while all(is_alive(pid) for pid in others):
                time.sleep(0.01)
            agent.send(KILL, [frozen])  # what torchrun does after half a minute
            ended = agent.wait()
        assert ended.status in (5, 128 + KILL), ended.text
        text = f"error: process {rank} of {count} has given no sign of life for {lost_after} s: stopped, or cut off"
        assert errors(ended) == [text], ended.text
    assert slowest < lost_after + 8  # of which 2 for the others to say more
    report(
        "a frozen process (SIGSTOP)",
        f"{amount(1, 20)} times: one message, at the latest after {slowest:.1f} s, of 2 s without a sign",
    )


def test_a_process_that_computes_without_a_pause_is_not_lost(agents: Agents) -> None:
    for rank in range(amount(1, 2)):
        before = SLOW.format(rank=rank, seconds=3)
        with agents.start("train", "small.yaml", "--output", f"slow{rank}", lost_after=1.5, before=before) as agent:
            ended = agent.wait()
        assert ended.status == 0, ended.text
        assert not errors(ended)


@pytest.mark.parametrize(
    ("before", "code", "message"),
    [
        pytest.param(NAN, 6, "error: ", id="nan"),
        # tests/test_launching.py has the like of these.
        pytest.param(UNREADABLE, 3, "error: process 1 of 2: cat/3.png cannot be read", id="unreadable", marks=IN_FULL),
        pytest.param(BUG.format(rank=1), 1, "error: process 1 of 2: a bug of cnntrain: Look", id="bug", marks=IN_FULL),
        pytest.param(BUG.format(rank=0), 1, "error: a bug of cnntrain: Look", id="bug in the first", marks=IN_FULL),
    ],
)
def test_what_goes_wrong_in_one_process_is_one_message(agents: Agents, before: str, code: int, message: str) -> None:
    ended = agents.run("train", "small.yaml", "--output", f"wrong{code}", before=before)
    [text] = errors(ended)
    assert text.startswith(message), ended.text
    assert ended.status == code, ended.text


def test_a_full_disk_ends_all_with_one_message_and_the_checkpoint_before(agents: Agents, tmp_path: Path) -> None:
    if not shutil.which("mount"):
        pytest.skip("this system has no mount")
    stopped, count = 0, amount(1, 10)
    for number in range(count):
        disk = tmp_path / f"disk{number}"
        disk.mkdir()
        size = 40 + 16 * number  # KiB; the run takes 300
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)]
        tried = subprocess.run(mount, capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"nothing can be mounted here: {tried.stderr.strip()}")
        try:
            ended = agents.run("train", "small.yaml", "--output", disk)
            assert ended.status in (0, 7), ended.text
            assert len(errors(ended)) == (ended.status != 0), ended.text
            for folder in disk.glob("*/*/checkpoints"):
                newest_training(folder, lambda _: None)
            stopped += ended.status == 7
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    assert stopped
    report("disk full, several processes", f"{count} sizes of a tmpfs, {stopped} too small: exit 7, one message")
