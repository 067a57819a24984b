"""A dry run: everything that training needs, tried once on one batch, without writing a run."""

import math
from dataclasses import replace

from cnntrain.config.loading import Config, dump_config
from cnntrain.data.reporter import Reporter
from cnntrain.errors import NumericalError
from cnntrain.models import count_parameters
from cnntrain.runtime.device import device_name, resolve_device
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.setup import set_up


def check(config: Config, reporter: Reporter, *, show_config: bool = False) -> list[str]:
    """Opens the data, builds the network, and runs one batch forward and backward.

    Args:
        config: What to try.
        reporter: Told what is done.
        show_config: Whether the text begins with the resolved configuration, as YAML.

    Returns:
        What was found, line by line.

    Raises:
        CnntrainError: Training could not work.
    """
    config, splits, state, settings, _ = set_up(config, resolve_device(config.run.device), reporter)
    batch = next(epoch_batches(splits, replace(settings, balanced=False, resizing=None), epoch=1))
    begin_epoch(state.network, settings, epoch=1)
    loss, expected = (
        train_step(state, batch, replace(settings, on_nonfinite="skip")).loss,
        settings.criterion.at_chance(),
    )
    if not math.isfinite(loss):
        raise NumericalError(f"the loss of the first batch is {loss}; look at the images, data.mean and data.std")
    counts = ", ".join(f"{name} {part['num_images']:,}" for name, part in splits.identity().items())
    images, (outputs, names) = splits.preprocessing, settings.task.in_brief
    facts = {
        "images": f"{counts}; {images.channels} channels, mean {_rounded(images.mean)}, std {_rounded(images.std)}",
        outputs: names,
        "batch": f"{tuple(batch.images.shape)} -> logits {(len(batch.images), settings.task.num_outputs)}",
        "parameters": f"{count_parameters(state.network):,}",
        "device": f"{device_name(settings.device)}, {settings.precision}",
        "steps": f"{settings.steps_per_epoch:,} an epoch, {settings.epochs} epochs",
        "initial loss": f"{loss:.4f}, expected about {expected:.4f} ({config.recipe.loss.chance_formula}): "
        + _judge(loss / expected),
    }
    lines = [f"{name:<14}{text}" for name, text in facts.items()]
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
