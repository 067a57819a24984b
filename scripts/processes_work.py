"""One contender of scripts/bench_processes, in one or several processes that torchrun has started; prints JSON.

    python scripts/processes_work.py WHO WORK SECONDS [DATA]

With SECONDS 0 nothing is timed: an epoch is trained on a number of images that the processes do not divide, and the
weights are printed instead; with SECONDS below 0 those before it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from peers_work import QUIET, WORKS, Work, as_task, cut, loss_of, training
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cnntrain.config.loading import load_config
from cnntrain.runs.run_log import RunLog
from cnntrain.runtime.device import resolve_device
from cnntrain.runtime.joining import joined
from cnntrain.runtime.processes import Processes
from cnntrain.training.setup import SetUp, set_up

COUNT = int(os.environ.get("WORLD_SIZE", "1"))
UNEVEN = 1_001  # images where agreement is looked at


def main(who: str, name: str, seconds: float, data_root: str | None) -> dict[str, Any]:
    """What was measured, in the first process."""
    work = WORKS[name]
    if not who.startswith("cnntrain"):
        made = open_work(work, data_root, seconds)
        train, network = PEERS[who](made, agrees=seconds <= 0)
        return measure(train, work.images, seconds) if seconds > 0 else weights(train, network, seconds)
    with joined() as processes, TemporaryDirectory() as folder:
        made = open_work(work, data_root, seconds, processes, apart=who != "cnntrain")
        values = made.config.model_dump(mode="json")
        with closing(RunLog(Path(folder), values, QUIET.say)) if processes.rank == 0 else nullcontext() as log:
            run = training(made, log)
            if seconds <= 0:
                return weights(run, made.state.network, seconds)
            return measure(run, work.images, seconds, lambda worth: processes.first(lambda: worth))


def open_work(
    work: Work, data_root: str | None, seconds: float, processes: Processes | None = None, *, apart: bool = False
) -> SetUp:
    """Data and network; where agreement is looked at, in float32, not augmented, and a rate that is not chaotic."""
    settings = [*work.settings, "recipe.batch_size=128", "recipe.schedule=constant", "run.device=cpu"]
    settings += ["recipe.optimizer.lr=0.01"] if seconds > 0 else [
        "recipe.optimizer.lr=0.001", "recipe.precision=float32", "data.augment=[]",
    ]  # fmt: skip
    if apart:
        settings.append("recipe.sync_batch_norm=false")
    if data_root:
        settings.append(f"run.data_root={json.dumps(data_root)}")
    together = {"processes": processes} if processes else {}
    config = load_config(work.config, settings).config
    made = set_up(config, resolve_device("cpu", *together.values()), QUIET, **together)  # type: ignore[arg-type]
    number = work.images if seconds > 0 else UNEVEN
    train = cut(made.splits.train, number)
    return made._replace(
        splits=replace(made.splits, train=train), settings=replace(made.settings, num_images=len(train))
    )


def measure(
    run: Callable[[], None], images: int, seconds: float, agree: Callable[[float], float] = lambda worth: worth
) -> dict[str, float]:
    """Images per second of all processes, after a pass that warms up."""
    started = time.perf_counter()
    run()
    passes = max(1, round(seconds / agree(time.perf_counter() - started)))
    started = time.perf_counter()
    for _ in range(passes):
        run()
    return {"speed": images * passes / (time.perf_counter() - started)}


def weights(run: Callable[[], None], network: nn.Module, seconds: float) -> dict[str, list[float]]:
    """The weights after a pass, or before it."""
    if seconds == 0:
        run()
    return {"weights": torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()]).tolist()}


def plain(made: SetUp, *, agrees: bool) -> tuple[Callable[[], None], nn.Module]:
    """PyTorch's own loop with DistributedDataParallel, as its tutorial writes it."""
    if COUNT > 1:
        dist.init_process_group("gloo")
    network, optimizer, loader, autocast = parts(made, shuffled=not agrees)
    model = nn.parallel.DistributedDataParallel(network) if COUNT > 1 else network
    smoothing = made.config.recipe.loss.label_smoothing

    def run() -> None:
        for images, targets in loader:
            optimizer.zero_grad()
            with autocast():
                loss = loss_of(model(images), targets, smoothing)
            loss.backward()
            optimizer.step()

    return run, network


def accelerated(made: SetUp, *, agrees: bool) -> tuple[Callable[[], None], nn.Module]:
    """The same by accelerate."""
    from accelerate import Accelerator

    bfloat16 = made.settings.precision == "bfloat16"
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if bfloat16 else "no")
    network, optimizer, loader, _ = parts(made, shuffled=not agrees, samples=False)
    model, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    smoothing = made.config.recipe.loss.label_smoothing

    def run() -> None:
        for images, targets in loader:
            optimizer.zero_grad()
            with accelerator.autocast():
                loss = loss_of(model(images), targets, smoothing)
            accelerator.backward(loss)
            optimizer.step()

    return run, network


def in_lightning(made: SetUp, *, agrees: bool) -> tuple[Callable[[], None], nn.Module]:
    """The same by Lightning, whose Trainer makes the sampler of each process itself."""
    import lightning

    network, optimizer, loader, _ = parts(made, shuffled=not agrees, samples=False)
    smoothing = made.config.recipe.loss.label_smoothing

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = network

        def training_step(self, batch: Any) -> Any:
            images, targets = batch
            return loss_of(self.model(images), targets, smoothing)

        def configure_optimizers(self) -> Any:
            return optimizer

    module, epochs = Module(), 0
    bfloat16 = made.settings.precision == "bfloat16"

    def run() -> None:
        nonlocal epochs
        epochs += 1
        trainer.fit_loop.max_epochs = epochs
        trainer.fit(module, loader)

    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=COUNT, strategy="ddp" if COUNT > 1 else "auto",
        precision="bf16-mixed" if bfloat16 else "32-true", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    return run, network


def parts(made: SetUp, *, shuffled: bool, samples: bool = True) -> Any:
    """Cnntrain's network and optimizer settings, and tensors ready for the network: nothing is decoded or augmented.

    That is in the others' favour: cnntrain augments meanwhile, on the same cores.
    """
    task, split = as_task(made, evaluates=False), made.splits.train
    network = task.build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), fused=True, **task.optimizer)
    [items] = split.store.read(split.positions, [slice(None)])
    data = TensorDataset(made.splits.preprocessing.network_input(items), split.targets)
    sampler: Any = DistributedSampler(data, shuffle=shuffled) if samples and COUNT > 1 else None
    loader = DataLoader(
        data, batch_size=128 // COUNT, sampler=sampler, shuffle=shuffled and sampler is None, num_workers=0
    )
    bfloat16 = made.settings.precision == "bfloat16"

    def autocast() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16)

    return network, optimizer, loader, autocast


PEERS = {"PyTorch's DDP": plain, "accelerate": accelerated, "Lightning": in_lightning}

if __name__ == "__main__":
    answer = main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
    if int(os.environ.get("RANK", "0")) == 0:
        print("ANSWER", json.dumps(answer), flush=True)
    os._exit(0)  # PyTorch takes seconds to be taken down
