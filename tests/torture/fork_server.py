"""A process that has imported everything, and forks a `cnntrain` for each line that it is sent.

A line is JSON: `arguments` of the command line, `log` (a file for stdout and stderr), `memory` (bytes that the process
may have in addition, or null), `signals` ([seconds, number] each, sent when so much time has passed). The answer is
JSON too: `status` (exit code, or minus the signal that ended it) and `seconds`.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch

from cnntrain.__main__ import entry
from cnntrain.data.sources.digits import digits

torch.set_num_threads(1)  # and so no thread but this one, which is all that a fork takes along
digits()


def serve() -> None:
    """Answers each line."""
    for line in sys.stdin:
        order = json.loads(line)
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            become_cnntrain(order)
        status = watch(child, order["signals"], started)
        answer = {"status": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - started}
        print(json.dumps(answer), flush=True)


def become_cnntrain(order: dict[str, object]) -> NoReturn:
    """Runs the command line as the installed program does, and ends this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    output = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    if order["memory"]:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + int(str(order["memory"]))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = ["cnntrain", *order["arguments"]]  # type: ignore[misc]
    code = 1
    try:
        entry()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def watch(child: int, signals: list[tuple[float, int]], started: float) -> int:
    """Sends the signals in their time, and returns how the child ended."""
    for seconds, number in signals:
        while time.perf_counter() - started < seconds:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            time.sleep(0.001)
        os.kill(child, number)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    serve()
