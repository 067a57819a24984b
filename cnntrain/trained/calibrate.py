"""Confidences that mean what they say: a temperature, fitted on validation, in the saved network."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from cnntrain.data.batches import Batch, eval_batches
from cnntrain.data.split import Split
from cnntrain.runs.checkpoints import network_bytes
from cnntrain.runs.files import write_bytes
from cnntrain.tasks.evaluation import evaluate, network_outputs
from cnntrain.tasks.task import kept_metrics
from cnntrain.trained.trained import Trained


class Calibrated(NamedTuple):
    """The network with its temperature, and the validation metrics that go with it."""

    trained: Trained
    val: dict[str, Any]


def save_temperature(trained: Trained, val: Split) -> Calibrated:
    """Fits a temperature on validation images and writes it into the checkpoint; the weights stay as they are.

    Args:
        trained: Its checkpoint is replaced.
        val: The validation images.

    Raises:
        DataError: A streamed image cannot be read.
        StorageError: The checkpoint cannot be written.
    """
    network, header = trained.network, trained.header

    def batches() -> Iterator[Batch]:
        return eval_batches(val, header.preprocessing, header.eval_batch_size)

    outputs, targets = (torch.cat(column) for column in zip(*network_outputs(network, batches()), strict=True))
    header = replace(header, temperature=trained.task.calibrated(outputs, targets).temperature)
    metrics = evaluate(network, batches(), header.task).summary()
    header = replace(header, val=kept_metrics(header.task, metrics))
    write_bytes(trained.path, network_bytes(network, header))
    return Calibrated(replace(trained, header=header), metrics)
