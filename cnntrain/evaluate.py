"""Evaluation: what a network makes of a whole split. Serves validation, the final test and `cnntrain evaluate`."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cnntrain.analysis.dead_relus import dead_relus, is_looked_at, spread
from cnntrain.config.loading import Config
from cnntrain.data import Preprocessing, Reporter, Split, Splits, prepare_split
from cnntrain.data.batches import Batch, eval_batches
from cnntrain.data.image_folder import moved_images
from cnntrain.data.layout import SPLITS
from cnntrain.errors import CheckpointError, DataError
from cnntrain.learner import Learner
from cnntrain.names import quoted
from cnntrain.records.checkpoints import Header, load_network
from cnntrain.runtime.device import exact_float32, use_threads
from cnntrain.tasks.task import NOT_FINITE, Evaluation, Task

E = TypeVar("E", bound=Evaluation)


@torch.inference_mode()
def evaluate(network: nn.Module, batches: Iterable[Batch], task: Task[E]) -> E:
    """Runs a network over batches, in float32 whatever the precision of training, so that numbers compare.

    Args:
        network: On the device of the batches; left in evaluation mode.
        batches: At least one, as `eval_batches` gives them: all images of a split, each once.
        task: What the outputs mean.

    Raises:
        DataError: A streamed image cannot be read.
    """
    columns = [task.outcomes(outputs, targets) for outputs, targets in network_outputs(network, batches)]
    # The host waits for the device here, once.
    return task.evaluation([torch.cat(column).cpu().numpy() for column in zip(*columns, strict=True)])


@torch.inference_mode()
def network_outputs(network: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs, float32 (M, K), and targets (M, ...) of some batches at a time; computed as for `evaluate`."""
    network.eval()
    with exact_float32():
        some: list[tuple[Tensor, Tensor]] = []
        for images, targets in batches:
            some.append((network(images), targets))
            if len(some) == _BATCHES_AT_ONCE or sum(outputs.numel() for outputs, _ in some) >= _NUMBERS_AT_ONCE:
                yield _joined(some)
                some = []
        if some:
            yield _joined(some)


def _joined(some: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*some, strict=True)
    return torch.cat(outputs), torch.cat(targets)


# Judged together: for a small network, doing so batch by batch takes a tenth of the time.
_BATCHES_AT_ONCE = 16
_NUMBERS_AT_ONCE = 2**22  # of outputs: with many classes, more would take memory and no less time


def eval_batches_with_bar(
    split: Split, preprocessing: Preprocessing, batch_size: int, reporter: Reporter
) -> Iterable[Batch]:
    """The batches of a split for `evaluate`; the reporter shows how far it is."""
    num_batches = math.ceil(len(split) / batch_size)
    return reporter.progress(eval_batches(split, preprocessing, batch_size), num_batches, "evaluating, batch")


def find_dead_relus(learner: Learner, splits: Splits, config: Config, epoch: int) -> dict[str, float]:
    """What `dead_relus` finds in validation images after the epochs in which it looks; nothing after the others."""
    is_last = learner.stopping.gives_up or epoch == config.recipe.epochs
    if not is_looked_at(epoch, is_last=is_last) or not len(splits.val):
        return {}
    return dead_relus(
        learner.kept, eval_batches(spread(splits.val), splits.preprocessing, config.recipe.images_at_once)
    )


def recorded_split(
    header: Header, name: str, *, device: torch.device, data_root: str | None, reporter: Reporter
) -> tuple[Split, int]:
    """A split of the data that a network was trained on, and how many images of it were left out.

    Args:
        header: The checkpoint's.
        name: `train`, `val` or `test`.
        device: Where batches are wanted.
        data_root: Where data sets live, if not where they were in training.
        reporter: Tells the user what takes its time.

    Raises:
        DataError: The data are missing, or have other classes than the network.
    """
    data, recorded = header.config.data, header.config.run.data_root
    if data_root:
        data = moved_images(data, Path(data_root), header.class_names)
    if not data_root and recorded and Path(recorded).is_dir():  # else a run from another machine
        data_root = recorded
    split, class_names, num_skipped = prepare_split(
        data, name, preprocessing=header.preprocessing, data_root=data_root, device=device, reporter=reporter
    )
    if not len(split):
        others = " or ".join(f"--split {other}" for other in SPLITS if header.split(other)["num_images"])
        raise DataError(
            f"there are no {name} images: the network was trained with data.{name}_fraction 0. Take other images of it "
            f"({others}), or train a new run with data.{name}_fraction above 0"
        )
    if class_names != header.class_names:
        raise DataError(
            f"the data have the classes {quoted(class_names)}; "
            f"the network of this checkpoint knows {quoted(header.class_names)}"
        )
    return split, num_skipped


def evaluate_checkpoint(
    path: Path, split_name: str, *, device: torch.device, data_root: str | None, reporter: Reporter
) -> dict[str, Any]:
    """What `cnntrain evaluate` prints.

    Args:
        path: A checkpoint file.
        split_name: `train`, `val` or `test`.
        device: Where to compute.
        data_root: Where data sets live, if not where they were in training.
        reporter: Tells the user what takes its time.

    Raises:
        CheckpointError: The file is no checkpoint, or its outputs are no finite numbers.
        DataError: The data are missing, or have other classes than the network.
    """
    model, header = load_network(path, device)
    use_threads(header.config.run.threads, at_most=torch.get_num_threads())
    split, num_skipped = recorded_split(header, split_name, device=device, data_root=data_root, reporter=reporter)
    batch_size = header.config.recipe.images_at_once
    found = evaluate(model, eval_batches_with_bar(split, header.preprocessing, batch_size, reporter), header.task)
    if not np.isfinite(found.losses).all():
        raise CheckpointError(f"{path}: {NOT_FINITE}")
    sha256 = split.identity()["sha256"]
    return {
        "checkpoint": str(path),
        "split": split_name,
        "sha256": sha256,
        "same_images_as_in_training": sha256 == header.split(split_name)["sha256"],
        **({"num_skipped": num_skipped} if num_skipped else {}),
        **found.summary(),
    }
