"""What scripts/bench_peers measures, and how cnntrain does it. All that touches cnntrain is here.

Nobody has a schedule, and the rate is one at which every network learns; neither matters to the speed.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.config.loading import load_config
from cnntrain.data.batches import eval_batches
from cnntrain.data.split import Split
from cnntrain.models import build_model
from cnntrain.models.options import WithAuxiliary
from cnntrain.runs.console import Console
from cnntrain.runs.run_log import RunLog
from cnntrain.runtime.device import resolve_device
from cnntrain.tasks.evaluation import evaluate
from cnntrain.training.loop import train_epoch
from cnntrain.training.nonfinite import check_event
from cnntrain.training.setup import SetUp, set_up

BATCH_SIZE = 128
SAME_FOR_ALL = (
    f"recipe.batch_size={BATCH_SIZE}", "recipe.schedule=constant", "recipe.optimizer.lr=0.01", "run.device=cpu",
)  # fmt: skip
QUIET = Console(quiet=True)
JPEG = ("data.source=image_folder", "data.root=cifar10-jpeg")


@dataclass(frozen=True)
class Work:
    """A row of the table.

    Attributes:
        title: What is done.
        config: The shipped configuration that does it.
        settings: What is changed in it, as in `--set`.
        images: How many make a pass; whole batches.
        evaluates: Passes over the test images without training, else over training images.
    """

    title: str
    config: str
    settings: tuple[str, ...]
    images: int
    evaluates: bool = False

    @property
    def folder(self) -> str | None:
        """Where the images are files, below the root of the data sets; None where they come as one array."""
        return "cifar10-jpeg" if self.settings == JPEG else None

    def of(self, batches: int | None) -> "Work":
        """The work with so many batches in a pass, if they are said."""
        return replace(self, images=batches * BATCH_SIZE) if batches else self


# MNIST is not augmented here, because the peers' affine distortion, image by image, would hide everything else.
PLAIN = ("data.augment=[]",)
WORKS = {
    "lenet_cifar10": Work("LeNet-5 on CIFAR-10 (JPEG)", "cifar10_lenet", JPEG, 12_800),
    "lenet_mnist": Work("LeNet-5 on MNIST, not augmented", "mnist_lenet", PLAIN, 12_800),
    "resnet20_cifar10": Work("ResNet-20 on CIFAR-10 (JPEG)", "cifar10_resnet20", JPEG, 2_560),
    "googlenet_cifar10": Work("GoogLeNet small on CIFAR-10 (JPEG)", "cifar10_googlenet", JPEG, 640),
    "lenet_mnist_test": Work("LeNet-5 on MNIST, evaluation", "mnist_lenet", PLAIN, 10_000, evaluates=True),
}


@dataclass(frozen=True)
class Task:
    """A work in plain values, the same for everybody.

    Attributes:
        images: uint8 (N, H, W) grey or (N, H, W, 3): those of a pass.
        labels: int64 (N,).
        files: The folder of class folders that the images came from, if they did.
        mean: Per channel, of images in [0, 1].
        std: Per channel.
        crop_padding: px on each side before a random crop; None: no crop.
        flips: Whether images are mirrored at random.
        optimizer: SGD's options.
        label_smoothing: Of the loss in training.
        autocast: What `precision: auto` computes in on this machine, in training.
        build: Makes the network, with the same weights each time.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    files: Path | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int | None
    flips: bool
    batch_size: int
    optimizer: dict[str, Any]
    label_smoothing: float
    autocast: torch.dtype
    build: Callable[[], nn.Module]
    evaluates: bool


def open_work(work: Work, data_root: str | None, precision: str = "auto") -> SetUp:
    """Steps 1 and 2 of cnntrain: data and network; with as many images as a pass has.

    Raises:
        CnntrainError: The data are missing.
    """
    settings = [*work.settings, *SAME_FOR_ALL, f"recipe.precision={precision}"]
    if data_root:
        settings.append(f"run.data_root={json.dumps(data_root)}")
    made = set_up(load_config(work.config, settings).config, resolve_device("cpu"), QUIET)
    splits = made.splits
    if work.evaluates:
        splits = replace(splits, test=cut(splits.test, work.images))
    else:
        splits = replace(splits, train=cut(splits.train, work.images))
    return made._replace(splits=splits, settings=replace(made.settings, num_images=len(splits.train)))


def as_task(made: SetUp, evaluates: bool, folder: str | None = None) -> Task:
    """The same work for the others; `folder` is where the images are files, below the root of the data sets."""
    config, splits = made.config, made.splits
    fitting, split = splits.preprocessing, splits.test if evaluates else splits.train
    steps = {step.name: step for step in config.data.augment}
    images = split.items()

    def build() -> nn.Module:
        return build_model(config.model, fitting.inputs, splits.num_classes, seed=config.run.seed)

    return Task(
        images=images.squeeze(-1) if fitting.channels == 1 else images,
        labels=split.targets.numpy(),
        files=Path(str(config.run.data_root), folder, "train") if folder else None,
        mean=fitting.mean,
        std=fitting.std,
        crop_padding=getattr(steps.get("random_crop"), "padding", None),
        flips="horizontal_flip" in steps,
        batch_size=config.recipe.batch_size,
        optimizer=config.recipe.optimizer.model_dump(include={"lr", "momentum", "nesterov", "weight_decay"}),
        label_smoothing=config.recipe.loss.label_smoothing,
        autocast=torch.bfloat16 if made.settings.precision == "bfloat16" else torch.float32,
        build=build,
        evaluates=evaluates,
    )


def cut(split: Split, num_images: int) -> Split:
    """As many images of a split, chosen at random, since a folder's are sorted by class."""
    return split.subset(torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:num_images])


def training(made: SetUp, log: RunLog | None) -> Callable[[], None]:
    """An epoch as `cnntrain train` has it, with all that is written meanwhile, by the first of several processes."""
    state = made.state

    def run() -> None:
        for event in train_epoch(state, made.splits, made.settings):
            check_event(event, state.network)
            if log:
                log.see(event)
        state.judge({})

    return run


def evaluation(made: SetUp) -> Callable[[], None]:
    """All metrics of the test images, as `cnntrain evaluate` has them."""

    def run() -> None:
        batches = eval_batches(made.splits.test, made.splits.preprocessing, made.settings.eval_batch_size)
        evaluate(made.state.kept, batches, made.settings.task).summary()

    return run


def loss_of(outputs: Tensor | WithAuxiliary, targets: Tensor, label_smoothing: float = 0) -> Tensor:
    """The mean cross-entropy, and that of GoogLeNet's auxiliary classifiers with their weight."""
    if isinstance(outputs, Tensor):
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)
    heads = (outputs.logits, *outputs.auxiliary)
    main, *auxiliary = (F.cross_entropy(logits, targets, label_smoothing=label_smoothing) for logits in heads)
    return main + outputs.weight * torch.stack(auxiliary).sum()
