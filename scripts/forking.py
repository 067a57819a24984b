"""A process that has imported the cnntrain of its PYTHONPATH, and forks one for each line that it is sent.

A line is JSON: `arguments` of the command line, `folder` to work in, `outputs` (files for stdout and stderr), `stop`
(null, or after how many updates this process is sent which signal: the same step each time, whatever the machine does)
and `poison` (which forward passes of training, counted from 1, give NaNs). The answer is a line with the exit code, or
minus the signal that ended it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pkgutil
import signal
import sys
from typing import Any, NoReturn

import torch
import torchvision.datasets.utils
from sklearn.datasets import load_digits
from torch.optim.optimizer import register_optimizer_step_post_hook

import cnntrain


def main() -> None:
    """Answers each line."""
    torch.set_num_threads(1)  # and so no thread but this one, which is all that a fork takes along
    torchvision.datasets.utils._urlretrieve = refuse  # no comparison depends on what can be downloaded
    load_digits()
    for module in pkgutil.walk_packages(cnntrain.__path__, "cnntrain."):
        importlib.import_module(module.name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become_cnntrain(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def refuse(*_: object, **__: object) -> NoReturn:
    """Takes the place of a download."""
    raise OSError("Network is unreachable")


def become_cnntrain(order: dict[str, Any]) -> NoReturn:
    """Runs the command line as the installed program does, and ends this process."""
    for number, path in enumerate([os.devnull, *order["outputs"]]):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags, 0o644), number)
    os.chdir(order["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where this was started in the background
    if order["stop"]:
        stop_after(*order["stop"])
    if order["poison"]:
        poison(set(order["poison"]))
    sys.argv = ["cnntrain", *order["arguments"]]
    try:
        from cnntrain.__main__ import entry

        entry()
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    os._exit(99)  # `entry` ends the process itself


def stop_after(updates: int, number: int) -> None:
    """Sends this process a signal right after so many updates."""
    count = itertools.count(1)

    def see(*_: object) -> None:
        if next(count) == updates:
            os.kill(os.getpid(), number)

    register_optimizer_step_post_hook(see)


def poison(passes: set[int]) -> None:
    """Lets the last linear layers answer NaN in these forward passes of training."""
    count, forward = itertools.count(1), torch.nn.Linear.forward

    def poisoned(self: torch.nn.Linear, input: torch.Tensor) -> torch.Tensor:
        outputs = forward(self, input)
        is_counted = self.training and torch.is_grad_enabled() and self.out_features == 10
        return outputs * float("nan") if is_counted and next(count) in passes else outputs

    torch.nn.Linear.forward = poisoned  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
