"""Forks a process for each line that it is sent, which stops itself, and when it is continued saves a checkpoint.

A line is JSON: `folder`, `step`, `careless`. The answers are the process's id, then, when it has ended, how.
"""

import hashlib
import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from cnntrain.config import parse_config
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.records.checkpoints import Header, network_bytes, save_training
from cnntrain.records.files import write_bytes
from cnntrain.runtime.sealing import manifest, manifest_of

torch.set_num_threads(1)
HEADER = Header(
    parse_config("model: lenet5\ndata: {source: digits}", "torture"),
    tuple("0123456789"),
    Preprocessing(1, 32, 32, "crop", (0.5,), (0.5,)),
    {},
)


def state(step: int) -> dict[str, object]:
    """Something to save, told apart from another step's, and from what was saved before for the same step."""
    weights = {"weight": torch.full((3000,), float(step))}
    return {"step": step, "model": weights, "kept": weights, "saved_at": time.time_ns()}


def save(folder: Path, step: int, careless: bool) -> None:
    """As training does it; or in place, as many do."""
    header = HEADER.at(1, step, {})
    if not careless:
        write_bytes(folder / "best.safetensors", network_bytes(torch.nn.Linear(step, 2), header))
        save_training(folder, state(step), header)
        return
    buffer = io.BytesIO()
    torch.save({"header": header.to_json(), **state(step)}, buffer)
    path = folder / "step-00000001.pt"
    path.write_bytes(buffer.getvalue())
    manifest_of(path).write_bytes(manifest(hashlib.sha256(buffer.getvalue()).hexdigest()))


def serve() -> None:
    """Answers each line."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            save(Path(order["folder"]), order["step"], order["careless"])
            os._exit(0)
        os.waitpid(child, os.WUNTRACED)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
