"""Several processes of this command on one machine, which torchrun's own agent starts and looks after."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.distributed.elastic.agent.server import WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.api import RunResult
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
from torch.distributed.launcher.api import LaunchConfig

from cnntrain.errors import DeviceError, OtherProcessError
from cnntrain.runtime.launchers import OWN_NAME
from cnntrain.runtime.machine import available_cores
from cnntrain.runtime.signals import STOPPING, Stopped

_LOOPBACK = "127.0.0.1"


def num_processes(text: str) -> int:
    """How many `auto` is: one for each GPU. Without one, PyTorch's own threads share the cores as well."""
    return max(1, torch.cuda.device_count()) if text == "auto" else int(text)


def start(count: int, *, max_restarts: int = 0) -> int:
    """Starts this very command `count` times, and waits until all have ended.

    Args:
        count: Of processes, which share the cores of this machine.
        max_restarts: How often they are started anew after one of them was killed.

    Returns:
        The exit code that they have agreed on.

    Raises:
        DeviceError: The system does not let them be started.
        OtherProcessError: None of them lives to say what has happened.
        Stopped: A signal came before they could hear it.
    """
    # Without this each would take all cores; torchrun would give each one core.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are passed on
    agent = _Agent(_specification(count, max_restarts), DefaultLogsSpecs(log_dir=os.devnull))
    with _silent_logs(), agent.listening():
        try:
            result = agent.run()
        except SignalException as error:
            return 128 + error.sigval
        except (OSError, RuntimeError) as error:
            raise DeviceError(f"{count} processes cannot be started: {str(error).splitlines()[0]}") from error
    return _exit_code(result, agent)


class _Agent(LocalElasticAgent):
    """Torchrun's agent: it passes signals on to the processes, and starts anew those that were killed.

    Those that have said what is wrong would only say it again.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: list[int] = []  # signals to be passed on
        self.last_signal = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While it is entered, signals are for the processes, which are in sessions of their own."""
        before = {number: signal.getsignal(number) for number in STOPPING}
        for number, handler in before.items():
            if number == signal.SIGINT or handler is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        self._waiting.append(number)
        self.last_signal = number

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        while self._waiting:
            number = self._waiting.pop(0)
            for worker in worker_group.workers:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(worker.id, number)
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed():
            was_killed = any(failure.exitcode < 0 for failure in result.failures.values())
            if self.last_signal or not was_killed:
                self._remaining_restarts = 0
            elif self._remaining_restarts:
                sys.stderr.write("starting the processes anew\n")
        return result


def _specification(count: int, max_restarts: int) -> WorkerSpec:
    meeting = RendezvousParameters(
        "c10d", f"{_LOOPBACK}:0", OWN_NAME, min_nodes=1, max_nodes=1, local_addr=_LOOPBACK, is_host=True
    )
    # Which cores are near which GPU is what torchrun's own configuration knows.
    near = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=count).numa_options
    return WorkerSpec(
        role="default",
        local_world_size=count,
        rdzv_handler=get_rendezvous_handler(meeting),
        entrypoint=sys.executable,
        args=tuple(text.replace("$", "$$") for text in sys.orig_argv[1:]),  # in which torchrun would put its values
        max_restarts=max_restarts,
        numa_options=near,
    )


def _exit_code(result: RunResult, agent: _Agent) -> int:
    """What the processes ended with; those that ended first come first, the others may have been told to."""
    codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
    if not codes:
        return 0
    if told := [code for code in codes.values() if code > 0]:
        return told[0]
    if agent.last_signal:  # while Python itself began
        raise Stopped(agent.last_signal)
    rank, code = next(iter(codes.items()))
    why = signal.Signals(-code).name
    text = f"process {rank} of {agent.get_worker_group().spec.local_world_size} was ended by {why}"
    raise OtherProcessError([text], OtherProcessError.exit_code, quiet=False)


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Without what torchrun says of processes that end: they have said why."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
