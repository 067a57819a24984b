"""Evaluation: what a network makes of a whole split, as its task sees it."""

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cnntrain.data.batches import Batch, eval_batches
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.split import Split
from cnntrain.runtime.device import exact_float32
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.tasks.task import Evaluation, Task

E = TypeVar("E", bound=Evaluation)


@torch.inference_mode()
def evaluate(network: nn.Module, batches: Iterable[Batch], task: Task[E], processes: Processes = ALONE) -> E:
    """Runs a network over batches, in float32 whatever the precision of training, so that numbers compare.

    Args:
        network: On the device of the batches; left in evaluation mode.
        batches: At least one, as `eval_batches` gives them: all images of a split, each once.
        task: What the outputs mean.
        processes: Among which the batches are shared.

    Raises:
        DataError: A streamed image cannot be read.
    """
    outcomes = [task.outcomes(outputs, targets) for outputs, targets in network_outputs(network, batches)]
    # The host waits for the device here, once.
    columns = [torch.cat(column).cpu().numpy() for column in zip(*outcomes, strict=True)]
    of_all = [own for own in processes.gather(columns) if own]  # of neighbours, in their order
    return task.evaluation([np.concatenate(column) for column in zip(*of_all, strict=True)])


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
    split: Split, preprocessing: Preprocessing, batch_size: int, reporter: Reporter, processes: Processes = ALONE
) -> Iterable[Batch]:
    """The batches of a split for `evaluate`; the reporter shows how far this process is."""
    num_batches = len(processes.share(range(math.ceil(len(split) / batch_size))))
    batches = eval_batches(split, preprocessing, batch_size, processes)
    return reporter.progress(batches, num_batches, "evaluating, batch")
