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

from cnntrain.config.loading import parse_config
from cnntrain.data.prepare import prepare_data
from cnntrain.runs.checkpoints import Header, network_bytes, save_training
from cnntrain.runs.files import write_bytes
from cnntrain.runs.resume import environment
from cnntrain.runs.run_log import NOTHING_LOGGED
from cnntrain.runtime.sealing import manifest, manifest_of
from cnntrain.training.setup import build_training

torch.set_num_threads(1)
CONFIG = parse_config("model: lenet5\ndata: {source: digits}", "torture")
SPLITS = prepare_data(CONFIG.data)
STATE = build_training(CONFIG, SPLITS, torch.device("cpu")).state
HEADER = Header(CONFIG, SPLITS.class_names, SPLITS.preprocessing, SPLITS.identity())


def state(step: int) -> dict[str, object]:
    """Something to save, told apart from another step's, and from what was saved before for the same step."""
    STATE.step = step
    weights = {name: torch.full_like(value, step) for name, value in STATE.network.state_dict().items()}
    content = STATE.state_dict()
    best = torch.empty(0, dtype=torch.uint8)
    told = {"val": {}, "best": best, "seconds": time.time(), "total_seconds": 0.0, "rollback_steps": [], "changes": []}
    more = {"weights": None, "log": NOTHING_LOGGED, "environment": environment()}
    return {**content, "model": weights, "kept": weights, "progress": {**content["progress"], **told}, **more}


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
