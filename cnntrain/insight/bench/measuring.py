"""Training, evaluation and their parts, measured in turn."""

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cnntrain.config.loading import Config, dump_config
from cnntrain.data.stores import ResidentStore, StreamedStore
from cnntrain.errors import CnntrainError
from cnntrain.insight.bench.parts import Parts
from cnntrain.insight.bench.scaling import Scaling
from cnntrain.runs.console import Console
from cnntrain.runs.run_log import RunLog
from cnntrain.runtime.device import MEMORY_FORMAT, device_name, resolve_device
from cnntrain.runtime.launchers import environment_alone
from cnntrain.runtime.load import Contention
from cnntrain.runtime.machine import peak_memory
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.training.setup import Built, SetUp, build_training, set_up


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
        num_processes: That train together; what follows is None where there is one.
        one_process_rate: `train_rate` of one process with the same threads, or the same GPU, while the others wait.
        scaling_efficiency: `train_rate` to as many times that as there are processes.
        one_process_all_cores_rate: The same with a thread on each core; None where it has those anyway, or on GPUs.
        all_cores_ratio: `train_rate` to that.
        communication_share: Of the time of a bare step, spent telling the other processes and waiting for them.
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
    num_processes: int = 1
    one_process_rate: float | None = None
    scaling_efficiency: float | None = None
    one_process_all_cores_rate: float | None = None
    all_cores_ratio: float | None = None
    communication_share: float | None = None


def measure(config: Config, console: Console, rounds: int, processes: Processes = ALONE) -> Figures:
    """Measures, in interleaved rounds.

    Args:
        config: Any that could be trained.
        console: Where progress goes.
        rounds: How often each part is measured.
        processes: That train together.

    Raises:
        CnntrainError: Training could not work.
    """
    ready = set_up(config, resolve_device(config.run.device, processes), console, processes=processes)
    first_step_seconds = processes.first(lambda: seconds_to_first_step(config))
    contention, splits, settings = Contention(), ready.splits, ready.settings
    values = ready.config.model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder, closing(RunLog(Path(folder), values, lambda *_: None)) as log:
        alone = _alone(ready) if processes.count > 1 else None
        parts, scaling = Parts(ready, log, alone), Scaling(ready, log, alone)
        rates: dict[str, list[float]] = {name: [] for name in parts.by_name}
        for _ in console.progress(range(rounds), rounds, "measuring"):
            for name, part in parts.by_name.items():
                rates[name].append(parts.rate(part))
            scaling.measure()
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
        **scaling.figures(rates),
    )


def _alone(ready: SetUp) -> Built:
    """The same network in a training of this process alone."""
    built = build_training(ready.config, ready.splits, ready.settings.device)
    return built._replace(settings=replace(built.settings, micro_batch=ready.settings.micro_batch))


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
        with subprocess.Popen(  # noqa: S603
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment_alone()
        ) as process:
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
