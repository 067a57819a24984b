"""Training, evaluation and their parts, measured in turn."""

import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cnntrain.config.loading import Config, dump_config
from cnntrain.data.batches import Batch, eval_batches
from cnntrain.data.stores import ResidentStore, StreamedStore
from cnntrain.errors import CnntrainError
from cnntrain.runs.console import Console
from cnntrain.runs.run_log import RunLog
from cnntrain.runtime.device import MEMORY_FORMAT, autocast, device_name, exact_float32, resolve_device
from cnntrain.runtime.load import Contention
from cnntrain.runtime.machine import peak_memory
from cnntrain.tasks.evaluation import evaluate
from cnntrain.training.cutting import cut_up
from cnntrain.training.loop import begin_epoch, epoch_batches, train_epoch
from cnntrain.training.nonfinite import check_event
from cnntrain.training.setup import SetUp, set_up

SECONDS = 0.6  # that the bare steps of a round take, about: short, so that what else goes on meets all parts alike


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds; what is named `..._rate` is in images per second.

    Attributes:
        num_threads: That compute on the CPU.
        bare_step_rate: Forward, loss, backward and update on one batch that stays where it is, in the same precision,
            memory format, threads and optimizer.
        train_rate: An epoch of `cnntrain train`: batches, augmentation, metrics, logging.
        train_ratio: The one to the other, the median of each round's.
        data_rate: Batches and augmentation, and nothing else.
        forward_rate: The forward pass alone on one batch, as evaluation does it.
        evaluate_rate: Evaluation with its metrics.
        evaluate_ratio: The one to the other.
        shares: Of the time of `train_rate`: forward, backward, update, data and loop, which is all the rest.
        first_step_seconds: From `cnntrain train` to the end of its first step, with the data on disk.
        peak_memory_bytes: Of the device's memory on a GPU, else of the whole process; None where nobody knows.
        image_bytes: Of all images, fitted.
        streamed: Whether images are decoded anew each time.
        contention: Share of the time for which other processes held the processor; None where nobody knows.
    """

    name: str
    network: str
    device: str
    num_threads: int
    precision: str
    memory_format: str
    batch_size: int
    images_held: str
    rounds: int
    steps: int
    bare_step_rate: float
    train_rate: float
    train_ratio: float
    data_rate: float
    forward_rate: float
    evaluate_rate: float
    evaluate_ratio: float
    shares: dict[str, float]
    first_step_seconds: float
    peak_memory_bytes: int | None
    image_bytes: int
    streamed: bool
    contention: float | None


def measure(config: Config, console: Console, rounds: int) -> Figures:
    """Measures, in interleaved rounds.

    Args:
        config: Any that could be trained.
        console: Where progress goes.
        rounds: How often each part is measured.

    Raises:
        CnntrainError: Training could not work.
    """
    ready = set_up(config, resolve_device(config.run.device), console)
    first_step_seconds = seconds_to_first_step(config)
    contention, splits, settings = Contention(), ready.splits, ready.settings
    values = ready.config.model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder, closing(RunLog(Path(folder), values, lambda *_: None)) as log:
        parts = Parts(ready, log)
        rates: dict[str, list[float]] = {name: [] for name in parts.by_name}
        for _ in console.progress(range(rounds), rounds, "measuring"):
            for name, part in parts.by_name.items():
                rates[name].append(parts.rate(part))
    rate = {name: statistics.median(all_rounds) for name, all_rounds in rates.items()}
    resident = isinstance(splits.train.store, ResidentStore)  # else images are read or decoded meanwhile
    image_bytes = splits.preprocessing.bytes_per_item * sum(map(len, (splits.train, splits.val, splits.test)))
    return Figures(
        name=str(ready.config.run.name),
        network=ready.config.model.name,
        device=device_name(settings.device),
        num_threads=torch.get_num_threads(),
        precision=settings.precision,
        memory_format=MEMORY_FORMAT,
        batch_size=parts.batch_size,
        images_held=splits.where_held,
        rounds=rounds,
        steps=parts.steps,
        bare_step_rate=rate["bare_step"],
        train_rate=rate["train"],
        train_ratio=_ratio(rates["train"], rates["bare_step"]),
        data_rate=rate["data"],
        forward_rate=rate["forward"],
        evaluate_rate=rate["evaluate"],
        evaluate_ratio=_ratio(rates["evaluate"], rates["forward"]),
        shares=_shares(rate, None if resident else statistics.median(parts.data_shares)),
        first_step_seconds=first_step_seconds,
        peak_memory_bytes=torch.cuda.max_memory_allocated() if settings.device.type == "cuda" else peak_memory(),
        image_bytes=image_bytes,
        streamed=isinstance(splits.train.store, StreamedStore),
        contention=contention.share(),
    )


class Parts:
    """What is measured, each a function that handles `steps` batches and returns how many images those are.

    All is as in the last epoch, when the whole network is trained on images of full size.

    Args:
        ready: A training that is set up; its state is put back to its start before each part.
        log: Of the epochs of training.

    Attributes:
        by_name: The parts.
        batch_size: The configuration's, or all training images where they are fewer.
        steps: Of a part.
        data_shares: Of the time of each `train`, spent waiting for data.
    """

    def __init__(self, ready: SetUp, log: RunLog) -> None:
        self.state, self.log, self._splits = ready.state, log, ready.splits
        train, self._epoch = ready.splits.train, ready.settings.epochs
        self._compiled = ready.config.run.compile
        self._start = copy.deepcopy(self.state.state_dict())
        self.batch_size = min(ready.settings.batch_size, len(train))
        self.settings = replace(ready.settings, batch_size=self.batch_size)
        self._batch = next(self._batches())
        self._eval_batch = next(eval_batches(train, ready.splits.preprocessing, self.settings.eval_batch_size))
        self.by_name: dict[str, Callable[[], int]] = {
            "bare_step": self.bare_step,
            "train": self.train,
            "data": self.data,
            "forward": self.forward,
            "evaluate": self.evaluate,
            "training_forward": self.training_forward,
            "update": self.update,
        }
        self.data_shares: list[float] = []
        whole_batches = len(train) // self.batch_size
        self.steps = min(3, whole_batches)
        seconds_per_step = self.batch_size / max(self.rate(self.bare_step) for _ in range(2))
        self.steps = min(whole_batches, max(3, round(SECONDS / seconds_per_step)))
        chosen = torch.arange(self.steps * self.batch_size)
        self._splits = replace(ready.splits, train=train.subset(chosen))
        self.settings = replace(self.settings, num_images=len(chosen))
        for part in self.by_name.values():  # compiles, allocates and draws what only the first time needs
            self.rate(part)

    def rate(self, part: Callable[[], int]) -> float:
        """Images per second of a part."""
        self.state.load_state_dict(copy.deepcopy(self._start))
        begin_epoch(self.state.network, self.settings, self._epoch)
        self._wait()
        started = time.perf_counter()
        num_images = part()
        self._wait()
        return num_images / (time.perf_counter() - started)

    def bare_step(self) -> int:
        """Steps 3 to 6 on one batch, as one would write them down."""
        for _ in range(self.steps):
            self._forward_backward()
            self.state.optimizer.step()
            self.state.optimizer.zero_grad(set_to_none=True)
        return self.steps * self.batch_size

    def train(self) -> int:
        """What `cnntrain train` does in an epoch."""
        self.state.go_to_epoch(self._epoch, self.steps)
        for event in train_epoch(self.state, self._splits, self.settings):
            check_event(event, self.state.network)
            self.log.see(event)
        figures = self.state.sums.figures()
        self.data_shares.append(figures.data_share)
        return figures.num_images

    def data(self) -> int:
        """Batches and augmentation."""
        return sum(len(batch.targets) for batch in self._batches())

    @torch.inference_mode()
    def forward(self) -> int:
        """The network in evaluation mode and float32."""
        self.state.network.eval()
        for _ in range(self.steps):
            with exact_float32():
                self.state.network(self._eval_batch.images)
        return self.steps * len(self._eval_batch.targets)

    def evaluate(self) -> int:
        """What validation does, on as many images as are trained on."""
        split = self._splits.train
        batches = eval_batches(split, self._splits.preprocessing, self.settings.eval_batch_size)
        evaluate(self.state.network, batches, self.settings.task)
        return len(split)

    def training_forward(self) -> int:
        """Steps 3 and 4 alone."""
        for _ in range(self.steps):
            if self._compiled:  # or a recorded pass would wait for its backward pass
                torch.compiler.cudagraph_mark_step_begin()
            for _ in self._losses():
                pass
        return self.steps * self.batch_size

    def update(self) -> int:
        """Step 6 alone, always with the same gradients."""
        self._forward_backward()
        for _ in range(self.steps):
            self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        return self.steps * self.batch_size

    def _forward_backward(self) -> None:
        for loss in self._losses():
            loss.backward()  # type: ignore[no-untyped-call]

    def _losses(self) -> Iterator[torch.Tensor]:
        settings = self.settings
        for images, targets in cut_up(self._batch, settings.parts(len(self._batch.targets))):
            with autocast(settings.precision, settings.device):
                outputs = self.state.forward(images)
            loss, _, _ = settings.task.training_loss(settings.criterion, outputs, targets)
            yield loss / self.batch_size

    def _batches(self) -> Iterator[Batch]:
        return epoch_batches(self._splits, self.settings, self._epoch)

    def _wait(self) -> None:
        if self.state.device.type != "cpu":
            torch.accelerator.synchronize()


def _ratio(these: list[float], those: list[float]) -> float:
    """Median of the ratios of each round, which other load disturbs less than a ratio of medians."""
    return statistics.median(this / that for this, that in zip(these, those, strict=True))


def _shares(rate: dict[str, float], data_share: float | None = None) -> dict[str, float]:
    """Of the time of an image in training; the loop's is what is left: metrics, logging, parts in each other's way.

    Where images are decoded while others are trained on, `data_share` says how much of the time is spent waiting.
    """
    seconds = {name: 1 / rate[name] for name in rate}
    backward = seconds["bare_step"] - seconds["training_forward"] - seconds["update"]
    parts = {
        "forward": seconds["training_forward"],
        "backward": backward,
        "update": seconds["update"],
        "data": seconds["data"] if data_share is None else data_share * seconds["train"],
    }
    parts["loop"] = seconds["train"] - sum(parts.values())
    return {name: part / seconds["train"] for name, part in parts.items()}


def seconds_to_first_step(config: Config) -> float:
    """Of a `cnntrain train` in a process of its own, which is stopped after its first step.

    Raises:
        CnntrainError: It did not get that far; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(dump_config(config), encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-m", "cnntrain", "train", str(file), "--output", folder]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:  # noqa: S603
            assert process.stderr is not None
            lines = list[str]()
            for line in process.stderr:
                if line.startswith(" 6  update"):
                    process.kill()
                    return time.perf_counter() - started
                lines.append(line)
            error = CnntrainError("".join(lines).rpartition("error: ")[2].strip())
            error.exit_code = process.wait()
    raise error
