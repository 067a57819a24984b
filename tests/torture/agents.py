"""Several processes, started by torchrun's own agent from a process that has imported everything."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
from harness import CONFIG, Ended, Imported

PATIENCE_SECONDS = 120  # after which a test says that something hangs


class Agents(Imported):
    """Starts one agent after another."""

    script = "agent_server.py"

    def start(
        self, *arguments: object, count: int = 2, restarts: int = 0, lost_after: float = 60, before: str = ""
    ) -> "Agent":
        """A command line in `count` processes."""
        log = self.folder / "log.txt"
        log.write_text("")
        order = {
            "arguments": [str(argument) for argument in arguments],
            "log": str(log),
            "count": count,
            "restarts": restarts,
            "lost_after": lost_after,
            "before": before,
        }
        return Agent(int(self.order(order)), self)

    def run(self, *arguments: object, count: int = 2, before: str = "") -> Ended:
        """The same, and how it ended."""
        with self.start(*arguments, count=count, before=before) as agent:
            return agent.wait()

    def text(self) -> str:
        """What was printed."""
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")


class Agent:
    """One that has been started.

    Attributes:
        pid: Its number.
    """

    def __init__(self, pid: int, agents: Agents) -> None:
        self.pid, self._agents, self._started = pid, agents, time.monotonic()
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_over:  # the test has failed
            self._kill()
            self._agents.answer()

    def workers(self) -> list[int]:
        """The numbers of its processes, in the order of their ranks."""
        numbers = list[str]()
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                numbers += task.read_text().split()
        return sorted(map(int, numbers))

    def until(self, text: str) -> None:
        """Waits for what it will print."""
        while text not in self._agents.text():
            assert time.monotonic() - self._started < PATIENCE_SECONDS, self._agents.text()
            time.sleep(0.01)

    def send(self, number: int, to: list[int]) -> None:
        """A signal to processes, which may have ended."""
        for pid in to:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self) -> Ended:
        """How it ended, with the first that failed; nothing of it may be left."""
        everybody = self.workers()
        hangs = threading.Timer(PATIENCE_SECONDS, self._kill)
        hangs.start()
        status = int(self._agents.answer())
        self._is_over = True
        assert hangs.is_alive(), f"it hung\n{self._agents.text()}"
        hangs.cancel()
        left = [pid for pid in everybody if is_alive(pid)]
        self.send(signal.SIGKILL, left)
        assert not left
        return Ended(status, time.monotonic() - self._started, self._agents.text())

    def _kill(self) -> None:
        self.send(signal.SIGKILL, [*self.workers(), self.pid])


def is_alive(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def agents_in(factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Agents in a folder of their own, with the small training as small.yaml."""
    folder = factory.mktemp("processes")
    (folder / "small.yaml").write_text(CONFIG)
    with Agents(folder) as agents:
        yield agents


def errors(ended: Ended) -> list[str]:
    """The messages that users see of what went wrong."""
    return [line for line in ended.text.splitlines() if line.startswith("error: ")]


def wait_a_moment(rng: random.Random, seconds: float) -> None:
    """Some part of that time."""
    time.sleep(rng.uniform(0, seconds))
