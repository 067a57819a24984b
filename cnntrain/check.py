"""A dry run: everything that training needs, tried once on one batch, without writing a run."""

import math

from cnntrain.config.loading import Config, dump_config
from cnntrain.data.batches import steps_per_epoch, train_batches
from cnntrain.data.pipeline import build_pipeline
from cnntrain.errors import NumericalError
from cnntrain.models import count_parameters
from cnntrain.names import shortened
from cnntrain.records.console import Console
from cnntrain.runtime.device import device_name, resolve_device
from cnntrain.train import set_up, train_step


def check(config: Config, console: Console, *, show_config: bool = False) -> list[str]:
    """Opens the data, builds the network, and runs one batch forward and backward.

    Args:
        config: What to try.
        console: Where lines go.
        show_config: Whether the text begins with the resolved configuration, as YAML.

    Returns:
        What was found, line by line.

    Raises:
        CnntrainError: Training could not work.
    """
    config, splits, learner = set_up(config, resolve_device(config.run.device), console)
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    batch_size = config.recipe.batch_size
    batch = next(train_batches(splits.train, pipeline, batch_size, seed=config.run.seed, epoch=1))
    learner.begin_epoch(1)
    result = train_step(learner, batch)
    loss, expected = float(result.loss_sum / result.total_weight), learner.criterion.at_chance()
    if not math.isfinite(loss):
        raise NumericalError(f"the loss of the first batch is {loss}; look at the images, data.mean and data.std")
    counts = ", ".join(f"{name} {found['num_images']:,}" for name, found in splits.identity().items())
    fitting = splits.preprocessing
    found = {
        "images": f"{counts}; {fitting.channels} channels, mean {_rounded(fitting.mean)}, std {_rounded(fitting.std)}",
        "classes": f"{splits.num_classes}: {', '.join(map(shortened, splits.class_names[:12]))}"
        + (", ..." if splits.num_classes > 12 else ""),
        "batch": f"{tuple(batch.images.shape)} -> logits {(len(batch.images), splits.num_classes)}",
        "parameters": f"{count_parameters(learner.model):,}",
        "device": f"{device_name(learner.device)}, {learner.precision}",
        "steps": f"{steps_per_epoch(len(splits.train), batch_size):,} an epoch, {config.recipe.epochs} epochs",
        "initial loss": f"{loss:.4f}, expected about {expected:.4f} ({_formula(config.recipe.loss.name)}): "
        + _judge(loss / expected),
    }
    lines = [f"{name:<14}{text}" for name, text in found.items()]
    resolved = dump_config(config).split("\n") if show_config else []
    return [*resolved, *lines, "", "ready to train"]


def _rounded(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"


def _judge(ratio: float) -> str:
    if abs(ratio - 1) < 0.25:
        return "as it should be"
    if ratio < 2:
        return "not far; a new head, a small batch or a deep network may start there"
    return "far off, so look at the images and their mean, and at model.init"


def _formula(loss: str) -> str:
    return "ln of the number of classes" if loss == "cross_entropy" else "1 - 1 / number of classes"
