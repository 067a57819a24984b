"""The same work as others do it: PyTorch's own loop over three kinds of loader, and Lightning.

As documented: float32, images and weights in PyTorch's usual layout. With our settings (`tuned`): channels last, the
fused optimizer, and where `precision: auto` picks bfloat16, autocast in training. What is left is the loop.
"""

import itertools
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import lightning
import numpy as np
import numpy.typing as npt
import timm.data
import torch
from peers_work import Task, loss_of
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

Loader = Iterable[tuple[Tensor, Tensor]]


class Contender(NamedTuple):
    """Somebody who can do the work.

    Attributes:
        name: Who.
        settings: How set up.
        workers: Worker processes of the loader, if there is one.
        run: One pass over the images; seconds.
    """

    name: str
    settings: str
    workers: int | None
    run: Callable[[], float]


class InMemory(Dataset[tuple[Any, int]]):
    """Images of one array, made into Pillow's and transformed one by one, as in torchvision's own data sets.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 3).
        labels: int64 (N,).
        transform: timm sets it later.
    """

    def __init__(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], transform: Any = None) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def peers(task: Task, workers: Iterable[int]) -> Iterator[Contender]:
    """Everybody but cnntrain, in every set-up."""
    ways: dict[str, Callable[[int, bool], Callable[[], float]]] = {
        "PyTorch, files": lambda count, tuned: loop(task, files_loader(task, count), tuned),
        "PyTorch, in memory": lambda count, tuned: loop(task, memory_loader(task, count), tuned),
        "timm's loader, in memory": lambda count, tuned: loop(task, timm_loader(task, count), tuned),
        "Lightning, in memory": lambda count, tuned: in_lightning(task, count, tuned),
    }
    if task.files is None:
        del ways["PyTorch, files"]
    for (name, prepare), tuned, count in itertools.product(ways.items(), (False, True), workers):
        yield Contender(name, "with our settings" if tuned else "as documented", count, prepare(count, tuned))


def augmentation(task: Task) -> Any:
    """The transforms of one image, torchvision's."""
    crop, height = task.crop_padding, task.images.shape[1]
    return transforms.Compose(
        [
            *([transforms.RandomCrop(height, padding=crop)] if crop is not None and not task.evaluates else []),
            *([transforms.RandomHorizontalFlip()] if task.flips and not task.evaluates else []),
            transforms.ToTensor(),
            transforms.Normalize(task.mean, task.std),
        ]
    )


def files_loader(task: Task, workers: int) -> Loader:
    """Every file is read and decoded in every epoch."""
    folder = ImageFolder(str(task.files), augmentation(task))
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))
    return _loader(Subset(folder, order[: len(task.labels)].tolist()), task, workers)


def memory_loader(task: Task, workers: int) -> Loader:
    """Images are decoded already."""
    return _loader(InMemory(task.images, task.labels, augmentation(task)), task, workers)


def timm_loader(task: Task, workers: int) -> Loader:
    """timm's, with its own transforms; it knows no padded crop: its usual one, resized, takes about as long."""
    height, width = task.images.shape[1:3]
    return timm.data.create_loader(  # type: ignore[no-any-return]
        InMemory(task.images, task.labels),
        input_size=(len(task.mean), height, width),
        batch_size=task.batch_size,
        is_training=not task.evaluates,
        no_aug=task.crop_padding is None,
        hflip=0.5 if task.flips else 0.0,
        color_jitter=None,
        crop_pct=1.0,
        mean=task.mean,
        std=task.std,
        num_workers=workers,
        persistent_workers=workers > 0,
        use_prefetcher=False,  # it is for GPUs
        device=torch.device("cpu"),
    )


def loop(task: Task, loader: Loader, tuned: bool) -> Callable[[], float]:
    """PyTorch's loop, as its tutorials write it."""
    model, optimizer = network(task, tuned)

    def train() -> None:
        train_epoch(task, model, optimizer, loader, tuned)

    @torch.inference_mode()
    def test() -> None:
        loss, correct = 0.0, 0
        for images, targets in loader:
            outputs = model(laid_out(images, tuned))
            loss += loss_of(outputs, targets).item()
            correct += int((outputs.argmax(1) == targets).sum())

    model.train(not task.evaluates)
    return timed(test if task.evaluates else train)


def train_epoch(
    task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, loader: Loader, tuned: bool,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> None:  # fmt: skip
    """One pass over the images; the schedule, if there is one, moves after each step."""
    running_loss = 0.0
    for images, targets in loader:
        optimizer.zero_grad()
        with _autocast(task, tuned):
            loss = loss_of(model(laid_out(images, tuned)), targets, task.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if schedule:
            schedule.step()
        running_loss += loss.item()


class Module(lightning.LightningModule):  # type: ignore[misc] # Lightning is optional, and not looked into
    """The work as Lightning wants it written."""

    def __init__(self, task: Task, tuned: bool) -> None:
        super().__init__()
        self.tuned, self.label_smoothing = tuned, task.label_smoothing
        self.model, self.optimizer = network(task, tuned)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of a batch."""
        images, targets = batch
        loss = loss_of(self.model(laid_out(images, self.tuned)), targets, self.label_smoothing)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Loss and accuracy of a batch."""
        images, targets = batch
        outputs = self.model(laid_out(images, self.tuned))
        self.log("test_loss", loss_of(outputs, targets))
        self.log("test_accuracy", (outputs.argmax(1) == targets).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one of the work."""
        return self.optimizer


class Stopwatch(lightning.Callback):  # type: ignore[misc]
    """Seconds of the last epoch, without the start of worker processes.

    In a test, which has one epoch, these read their first batches before it begins: that is in Lightning's favour.
    """

    seconds = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Starts."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stops."""
        self.seconds = time.perf_counter() - self._started

    on_test_epoch_start, on_test_epoch_end = on_train_epoch_start, on_train_epoch_end


def in_lightning(task: Task, workers: int, tuned: bool) -> Callable[[], float]:
    """Lightning's Trainer without logger, checkpoints and bars: only its loop is measured."""
    module, loader = Module(task, tuned), memory_loader(task, workers)
    bfloat16 = tuned and task.autocast is torch.bfloat16 and not task.evaluates

    def run() -> float:
        watch = Stopwatch()
        # The first epoch starts the workers, which every call ends.
        made = trainer("bf16-mixed" if bfloat16 else "32-true", epochs=2, callbacks=[watch])
        if task.evaluates:
            made.test(module, loader, verbose=False)
        else:
            made.fit(module, loader)
        return watch.seconds

    return run


def trainer(precision: str, epochs: int, callbacks: Sequence[lightning.Callback] = ()) -> lightning.Trainer:
    """Lightning's, on the CPU, without all that it can be spared."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")  # that there are few workers
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        precision=precision,
        callbacks=[*callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def timed(work: Callable[[], None]) -> Callable[[], float]:
    """The same, returning its seconds."""

    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def _loader(dataset: Dataset[Any], task: Task, workers: int) -> Loader:
    return DataLoader(
        dataset,
        batch_size=task.batch_size,
        shuffle=not task.evaluates,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def network(task: Task, tuned: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Cnntrain's network and SGD, which is fused with our settings."""
    model = task.build()
    if tuned:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, torch.optim.SGD(model.parameters(), fused=tuned or None, **task.optimizer)


def laid_out(images: Tensor, tuned: bool) -> Tensor:
    """Images (B, C, H, W) in the layout of the settings."""
    return images.to(memory_format=torch.channels_last) if tuned else images


def _autocast(task: Task, tuned: bool) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=tuned and task.autocast is torch.bfloat16)
