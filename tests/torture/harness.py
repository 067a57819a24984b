"""What the tortures share: a small training, a server that forks it, and what must be equal at the end."""

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import pytest
import safetensors
import torch

from cnntrain.runs.saving import Saver
from cnntrain.training.events import Event, StepDone
from cnntrain.training.nonfinite import clip_gradients
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState

FULL = os.environ.get("CNNTRAIN_TORTURE") == "full"
REPORT = os.environ.get("CNNTRAIN_TORTURE_REPORT")
HERE = Path(__file__).parent
TIMES = {
    "seconds", "images_per_second", "data_share", "time", "train_seconds", "total_seconds", "contention_share",
    "command",
}  # fmt: skip

# Everything that could make going on differ from going through: dropout, batch norm, mixing, averaging, accumulation,
# a plateau schedule, early stopping, growing images.
CONFIG = """
model:
  name: sequential
  layers:
    - Conv2d: 4
    - BatchNorm2d
    - ReLU
    - AdaptiveAvgPool2d: 4
    - Flatten
    - Dropout: 0.2
    - Linear
data: {source: digits, image_size: 8, augment: [{random_crop: {padding: 1}}, mixup]}
recipe:
  epochs: 4
  batch_size: 256
  micro_batch: 200
  optimizer: {name: sgd, lr: 0.3}
  schedule: {name: reduce_on_plateau, patience: 1, factor: 0.5}
  averaging: {decay: 0.9}
  early_stopping: {metric: loss, patience: 3}
  progressive_resizing: {initial_size: 6, until: 0.4}
  checkpoint_every_steps: 2
  precision: float32
run: {tensorboard: true, log_every_steps: 2, report: false}
"""


def amount(short: int, full: int) -> int:
    """How often, in the gate and in `scripts/torture`."""
    return full if FULL else short


def poison_loss(patch: pytest.MonkeyPatch, is_poisoned: Callable[[int], bool]) -> None:
    """A NaN in the loss of the steps (from 0) that are chosen, each time that they are taken."""

    def clip(state: TrainingState, settings: Settings, loss_sum: torch.Tensor) -> bool:
        return clip_gradients(state, settings, loss_sum * (math.nan if is_poisoned(state.step) else 1))

    patch.setattr("cnntrain.training.loop.clip_gradients", clip)


def meanwhile(patch: pytest.MonkeyPatch, do: Callable[[Saver, int], object]) -> None:
    """Something after each step; its number counts those that are taken again after a rollback."""
    see, count = Saver.see, 0

    def followed(saver: Saver, event: Event) -> None:
        nonlocal count
        see(saver, event)
        if isinstance(event, StepDone):
            count += 1
            do(saver, count)

    patch.setattr(Saver, "see", followed)


def report(proof: str, found: str) -> None:
    """A line for docs/reliability.md."""
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as file:
            test = os.environ["PYTEST_CURRENT_TEST"].partition("[")[0].partition(" ")[0]
            file.write(json.dumps({"proof": proof, "found": found, "test": test}) + "\n")


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        status: Its exit code, or minus the signal that ended it.
        text: What it printed.
    """

    status: int
    seconds: float
    text: str


class Imported:
    """A process that has imported everything, and forks what it is told to, line by line."""

    script: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.folder / "cache")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / self.script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=self.folder,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def order(self, values: dict[str, Any]) -> str:
        """Tells it, and gives its answer."""
        assert self._process.stdin
        print(json.dumps(values), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> str:
        """The next line that it says."""
        assert self._process.stdout
        return self._process.stdout.readline()


class Server(Imported):
    """Forks `cnntrain`."""

    script = "fork_server.py"

    def run(
        self, *arguments: object, signals: list[tuple[float, int]] | None = None, memory: int | None = None
    ) -> Ended:
        """A command line in a process of its own, which is sent signals after so many seconds each."""
        log = self.folder / "log.txt"
        order = {
            "arguments": [str(argument) for argument in arguments],
            "log": str(log),
            "memory": memory,
            "signals": signals or [],
        }
        answer = json.loads(self.order(order))
        return Ended(answer["status"], answer["seconds"], log.read_text(encoding="utf-8", errors="replace"))


@contextmanager
def serving(factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in a folder of its own, with the small training as small.yaml."""
    folder = factory.mktemp("torture")
    (folder / "small.yaml").write_text(CONFIG)
    with Server(folder) as server:
        yield server


def outcome(output: Path) -> dict[str, Any]:
    """Of the only run below a folder of runs: all that must not depend on what happened on the way."""
    [folder] = [path.parent for path in output.glob("*/*/config.yaml")]
    newest = max((folder / "checkpoints").glob("step-*.pt"))
    state = torch.load(newest, weights_only=True)
    with safetensors.safe_open(folder / "checkpoints" / "best.safetensors", framework="pt") as file:
        best = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    return {
        "step": newest.name,
        "model": _bytes(state["model"]),
        "kept": _bytes(state["kept"]),
        "momentum": [_bytes(group) for group in state["optimizer"]["state"].values()],
        "best": _bytes(best),
        "results": without_times(json.loads((folder / "results.json").read_text())),
        "metrics": [without_times(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        "signals": (folder / "signals.jsonl").read_text(),
        "scalars": scalars(folder),
    }


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """What TensorBoard would draw, speeds apart, in the order in which it was written."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return [
        (event.step, value.tag, value.simple_value)
        for path in sorted(folder.glob("events.out.tfevents.*"))
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.HasField("simple_value") and not value.tag.startswith("speed/")
    ]


def without_times(values: Any) -> Any:
    """The same without seconds, what follows from them, and how the run was called."""
    if not isinstance(values, dict):
        return values
    return {key: without_times(value) for key, value in values.items() if key not in TIMES}


def moments(rng: random.Random, duration: float) -> float:
    """Some moment of a process that would take so many seconds."""
    return rng.uniform(0, duration)


def _bytes(tensors: dict[str, Any]) -> dict[str, bytes]:
    return {
        name: tensor.contiguous().numpy().tobytes()
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }
