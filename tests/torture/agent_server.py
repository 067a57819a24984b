"""A process that has imported everything, and starts several `cnntrain` at once with torchrun's own agent, by a fork.

A line is JSON: `arguments` of the command line, `log` (a file for stdout and stderr), `count` of processes, `restarts`
(how often the agent may start them anew), `lost_after` (seconds without a sign of life), `before` (Python that each
process runs first). The first line of the answer is the agent's number, the second, when it has ended, how: the exit
code of the process that failed first (128 and the signal that ended it), or minus the signal that ended the agent.
"""

import json
import os
import signal
import sys
import time
from multiprocessing.synchronize import Event
from typing import NoReturn

import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cnntrain import ten_steps  # noqa: F401 (all that a training imports)
from cnntrain.__main__ import entry
from cnntrain.cli import train  # noqa: F401
from cnntrain.data.sources.digits import digits
from cnntrain.runtime import watch
from cnntrain.runtime.signals import STOPPING

torch.set_num_threads(1)  # and so no thread but this one, which is all that a fork takes along
digits()


class Returned(Exception):
    """The command has come to a good end: the agent wants its process to say so."""


def wait_and_look(event: Event, timeout: float | None = None) -> bool:
    """Who is killed while it waits for an event as usual lets whoever sets that wait forever."""
    while not event.is_set():
        time.sleep(0.02)
    return True


def serve() -> None:
    """Answers each line."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            become_agent(order)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def become_agent(order: dict[str, object]) -> NoReturn:
    """Starts the processes as torchrun does, and ends this one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    how = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=int(str(order["count"])), run_id=str(os.getpid()),
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=int(str(order["restarts"])),
        monitor_interval=0.05, start_method="fork",
    )  # fmt: skip
    code = 1
    try:
        elastic_launch(how, become_cnntrain)(order)
        code = 0
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        code = code if code >= 0 else 128 - code
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def become_cnntrain(order: dict[str, object]) -> None:
    """Runs the command line as the installed program does."""
    sys.argv = ["cnntrain", *order["arguments"]]  # type: ignore[misc]
    watch.LOST_AFTER_SECONDS = float(str(order["lost_after"]))
    watch._GRACE_SECONDS = min(watch._GRACE_SECONDS, watch.LOST_AFTER_SECONDS)
    leave = os._exit

    def leave_well(code: int) -> NoReturn:
        if code or sys._getframe(1).f_code.co_name != "entry":
            leave(code)
        # PyTorch's agent keeps it until all have ended.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.signal = lambda *_: None  # type: ignore[assignment]  # which would put the handlers back
        raise Returned

    exec(str(order["before"]), {"rank": int(os.environ["RANK"])})
    os._exit = leave_well  # type: ignore[assignment]
    try:
        entry()
    except Returned:
        os._exit = leave


if __name__ == "__main__":
    Event.wait = wait_and_look  # type: ignore[method-assign, assignment]  # by which PyTorch's agent keeps a process that is done
    serve()
