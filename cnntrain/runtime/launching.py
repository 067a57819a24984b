"""Several processes of this command on one machine, which torchrun's own agent starts and looks after."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.distributed.elastic.agent.server import WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.api import RunResult
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
from torch.distributed.launcher.api import LaunchConfig

from cnntrain.errors import DeviceError, OtherProcessError
from cnntrain.runtime.launchers import OWN_NAME, STARTED_BY
from cnntrain.runtime.machine import available_cores
from cnntrain.runtime.signals import INTERRUPTED, PREEMPTED, STOPPING, Stopped

_LOOPBACK = "127.0.0.1"
_PATIENCE_SECONDS = 7.0  # for the others, once one has failed; longer than the watch gives each of them


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
    os.environ[STARTED_BY] = str(os.getpid())
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
        self.last_signal = self.first_to_fail = 0

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
        self._pass_on_signals(worker_group)
        assert isinstance(self._pcontext, SubprocessContext)
        processes = [handler.proc for handler in self._pcontext.subprocess_handlers.values()]
        if failed := [rank for rank, process in enumerate(processes) if process.poll()]:
            self.first_to_fail = min(failed, key=lambda rank: processes[rank].returncode)  # those that were killed
            self._let_end(processes, worker_group)
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed():
            code = result.failures[self.first_to_fail].exitcode
            if self.last_signal or code > 0:
                self._remaining_restarts = 0
            elif self._remaining_restarts:
                ended_by = signal.Signals(-code).name
                sys.stderr.write(f"process {self.first_to_fail} was ended by {ended_by}: starting the processes anew\n")
        return result

    def _pass_on_signals(self, worker_group: WorkerGroup) -> None:
        while self._waiting:
            number = self._waiting.pop(0)
            for worker in worker_group.workers:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(worker.id, number)

    def _let_end(self, processes: Sequence[subprocess.Popen[bytes]], worker_group: WorkerGroup) -> None:
        """Waits for the others, which learn of the failure, say why, and end.

        torchrun would stop them at once, by a signal that they could take for the user's. One that stands still, or has
        not met the others yet, learns nothing.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while any(process.poll() is None for process in processes):
            self._pass_on_signals(worker_group)
            if time.monotonic() > until:
                for process in processes:
                    process.kill()
            time.sleep(0.02)


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
    """What the processes ended with, all that could alike."""
    codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
    if not codes or (0 not in codes and set(codes.values()) <= {PREEMPTED, INTERRUPTED}):
        return 0  # a signal came when the first process had done all that there was to do
    if told := [code for code in codes.values() if code > 0]:
        return told[0]
    if agent.last_signal:  # while Python itself began
        raise Stopped(agent.last_signal)
    rank = agent.first_to_fail
    why = signal.Signals(-codes[rank]).name
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
