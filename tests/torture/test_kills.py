"""Killed, preempted, interrupted: a training that goes on ends as if nothing had happened, to the last bit."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Ended, Server, amount, moments, outcome, report, serving

TERM, INT, USR1, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def uninterrupted(server: Server) -> tuple[dict[str, Any], float]:
    """What comes out, and how long it takes."""
    ended = [train(server, f"whole{number}") for number in range(2)]
    assert [one.status for one in ended] == [0, 0], ended[0].text
    first, second = (outcome(server.folder / f"whole{number}") for number in range(2))
    assert first == second
    return first, ended[1].seconds


def train(server: Server, name: str, **how: Any) -> Ended:
    return server.run("train", "small.yaml", "--resume", "--output", server.folder / name, **how)


def test_a_killed_training_ends_as_if_it_had_not_been(
    server: Server, uninterrupted: tuple[dict[str, Any], float]
) -> None:
    expected, duration = uninterrupted
    rng, kills, runs = random.Random(0), 0, amount(1, 100)
    for number in range(runs):
        for _ in range(rng.randint(3, 6)):
            ended = train(server, f"killed{number}", signals=[(moments(rng, duration / 2), KILL)])
            assert ended.status in (0, -KILL), ended.text
            kills += ended.status == -KILL
        ended = train(server, f"killed{number}")
        assert ended.status == 0, ended.text
        assert outcome(server.folder / f"killed{number}") == expected
    assert kills > runs
    report("`kill -9` at random moments", f"{kills} kills over {runs} completed runs: 0 differing weights")


def test_a_signal_saves_and_the_training_ends_as_if_it_had_not_been(
    server: Server, uninterrupted: tuple[dict[str, Any], float]
) -> None:
    expected, duration = uninterrupted
    rng, count, slowest = random.Random(1), amount(2, 100), 0.0
    for number in range(count):
        sent, moment = rng.choice([TERM, INT, USR1]), moments(rng, duration)
        ended = train(server, f"signal{number}", signals=[(moment, sent)])
        assert ended.status in (0, 130 if sent == INT else 75), ended.text
        assert "Traceback" not in ended.text
        if ended.status and "cnntrain train --resume" not in ended.text:
            assert not list((server.folder / f"signal{number}").glob("*/*")), ended.text  # it had not begun
        slowest = max(slowest, ended.seconds - moment if ended.status else 0)
        assert train(server, f"signal{number}").status == 0
        assert outcome(server.folder / f"signal{number}") == expected
    report("signals at random moments", f"{count} signals: saved, gone on with, 0 differing; at most {slowest:.2f} s")


def test_a_second_signal_ends_at_once_and_the_checkpoint_stays_whole(
    server: Server, uninterrupted: tuple[dict[str, Any], float]
) -> None:
    expected, duration = uninterrupted
    rng, count = random.Random(2), amount(1, 20)
    for number in range(count):
        moment = moments(rng, duration)
        twice = [(moment, TERM), (moment + rng.choice([0, 0.001, 0.01]), TERM)]
        ended = train(server, f"double{number}", signals=twice)
        assert ended.status in (0, 75), ended.text
        assert train(server, f"double{number}").status == 0
        assert outcome(server.folder / f"double{number}") == expected
    report("double signals", f"{count} double signals: every checkpoint whole, 0 differing weights")


def test_a_signal_while_everything_is_imported_is_one_message(server: Server) -> None:
    rng, count = random.Random(3), amount(1, 30)
    command = [sys.executable, "-m", "cnntrain", "train", "small.yaml", "--resume", "--output", "imported"]
    for _ in range(count):
        with subprocess.Popen(command, cwd=server.folder, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(rng.uniform(0.5, 3))  # Python itself needs a moment before it can listen
            process.send_signal(TERM)
            text = process.communicate(timeout=60)[1]
        assert process.returncode in (75, 0), text
        assert "Traceback" not in text
    assert train(server, "imported").status == 0
    report("signals from the first import on", f"{count} signals: exit 75, one message")
