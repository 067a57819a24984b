"""Commands on several processes, as a launcher starts them. As a script it reads what to do from stdin, as JSON.

    python tests/forked.py OUT < WORK.json   # OUT/NAME.RANK.out, .err and .code, for each command and process

One process that has imported everything is forked again and again, so that commands begin at once.
"""

import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import sklearn.datasets  # noqa: F401 (takes its time)
import torch

import cnntrain.insight.bench.measuring
import cnntrain.runtime.joining
import cnntrain.ten_steps
from cnntrain.cli import main
from cnntrain.runs.console import Console


def run_command(command: dict[str, Any], out: Path) -> None:
    """Runs it in `processes` forks of this process, and waits for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(command["processes"]):
        if not (child := os.fork()):
            os.environ |= {
                "WORLD_SIZE": str(command["processes"]), "RANK": str(rank), "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            _end_with(command, out / f"{command['name']}.{rank}")
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _end_with(command: dict[str, Any], out: Path) -> NoReturn:
    code = 1
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{out}.{name}", os.O_WRONLY | os.O_CREAT), number)
    try:
        torch.set_num_threads(command["threads"])
        if cores := command["cores"]:
            patch("cnntrain.runtime.device.available_cores", lambda: cores).start()
        code = main(command["arguments"]) if command["arguments"] else _use_library(command["run"])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    Path(f"{out}.code").write_text(str(code))
    os._exit(code)


def _use_library(folder: str) -> int:
    run = cnntrain.train("digits_lenet", epochs=1, output=folder, set="run.tensorboard=false", report=False)
    evaluated = run.trained.evaluate("val", reporter=Console())
    print(json.dumps([run.results, evaluated, run.history]))
    return 0


if __name__ == "__main__":
    patch("cnntrain.insight.bench.parts.SECONDS", 0.05).start()
    patch("cnntrain.insight.bench.measuring.seconds_to_first_step", lambda _: 3.0).start()
    for each in json.load(sys.stdin):
        run_command(each, Path(sys.argv[1]))
