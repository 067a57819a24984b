"""Evaluation: what a network makes of a whole split. Serves validation, the final test and `cnntrain evaluate`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.data import Preprocessing, Split, prepare_data
from cnntrain.data.batches import eval_batches
from cnntrain.data.source import Progress
from cnntrain.errors import DataError
from cnntrain.metrics import Evaluation
from cnntrain.records.checkpoints import load_network
from cnntrain.task import SingleLabel


@torch.inference_mode()
def evaluate(
    model: nn.Module, split: Split, preprocessing: Preprocessing, task: SingleLabel, batch_size: int
) -> Evaluation:
    """Runs a network over a split, in float32 whatever the precision of training, so that numbers compare.

    Args:
        model: Left in evaluation mode.
        split: On the model's device.
        preprocessing: The checkpoint's.
        task: What the outputs mean.
        batch_size: Images at once.
    """
    model.eval()
    columns: list[tuple[Tensor, ...]] = []
    for images, targets in eval_batches(split, preprocessing, batch_size):
        outputs = model(images)
        confidences, predictions = task.probabilities(outputs).max(1)
        top5 = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
        in_top5 = (top5 == targets[:, None]).any(1)
        columns.append((targets, predictions, task.losses(outputs, targets), confidences, in_top5))
    # The host waits for the device here, once.
    found = [torch.cat(column).cpu().numpy() for column in zip(*columns, strict=True)]
    return Evaluation(task.class_names, *found)


def evaluate_checkpoint(
    path: Path, split_name: str, *, device: torch.device, data_root: str | None, progress: Progress
) -> dict[str, Any]:
    """What `cnntrain evaluate` prints.

    Args:
        path: A checkpoint file.
        split_name: `train`, `val` or `test`.
        device: Where to compute.
        data_root: Where data sets live, if not where they were in training.
        progress: Shows how far decoding is.

    Raises:
        CheckpointError: The file is no checkpoint.
        DataError: The data are missing, or have other classes than the network.
    """
    model, about = load_network(path, device)
    splits = prepare_data(
        about.config.data,
        data_root=data_root or about.config.run.data_root,
        preprocessing=about.preprocessing,
        progress=progress,
    )
    if splits.class_names != about.class_names:
        raise DataError(
            f"the data have the classes {', '.join(splits.class_names)}; "
            f"the network of {path} knows {', '.join(about.class_names)}"
        )
    split: Split = getattr(splits, split_name).to(device)
    task = SingleLabel(about.class_names, about.config.recipe.loss.name)
    batch_size = about.config.recipe.batch_size
    summary = evaluate(model, split, about.preprocessing, task, batch_size).summary()
    same = split.sha256 == about.splits[split_name]["sha256"]
    return {
        "checkpoint": str(path),
        "split": split_name,
        "sha256": split.sha256,
        "same_images_as_in_training": same,
        **summary,
    }
