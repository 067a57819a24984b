"""Confidences that mean what they say: a temperature, fitted on validation, in the saved network."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from cnntrain.data import Split
from cnntrain.data.batches import eval_batches
from cnntrain.evaluate import evaluate, network_outputs
from cnntrain.records.checkpoints import Header, network_bytes
from cnntrain.records.files import write_bytes
from cnntrain.records.run_log import SUMMARY_METRICS


class Calibrated(NamedTuple):
    """What the checkpoint says from now on, and the validation metrics that go with it."""

    header: Header
    val: dict[str, Any]


def save_temperature(path: Path, model: nn.Module, header: Header, val: Split) -> Calibrated:
    """Fits a temperature on validation images and writes it into the checkpoint; the weights stay as they are.

    Args:
        path: The checkpoint.
        model: Its network.
        header: Its header.
        val: The validation images.

    Raises:
        DataError: A streamed image cannot be read.
        StorageError: The checkpoint cannot be written.
    """
    fitting, batch_size = header.preprocessing, header.config.recipe.images_at_once
    judged = network_outputs(model, eval_batches(val, fitting, batch_size))
    outputs, targets = (torch.cat(column) for column in zip(*judged, strict=True))
    header = replace(header, temperature=header.task.calibrated(outputs, targets).temperature)
    metrics = evaluate(model, eval_batches(val, fitting, batch_size), header.task).summary()
    header = replace(header, val={key: metrics[key] for key in SUMMARY_METRICS if key in metrics})
    write_bytes(path, network_bytes(model, header))
    return Calibrated(header, metrics)
