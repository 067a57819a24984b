"""Progressive resizing: small images first, as fast.ai's DAWNBench entry of 2018 trained ImageNet."""

import math

import torch
from torch import nn

from cnntrain.config import schema
from cnntrain.errors import ConfigError


def training_size(recipe: schema.Recipe, epoch: int, full_size: int) -> int:
    """The side of the training images in an epoch (from 1), px: it grows evenly, in steps of an eighth of the full one.

    Args:
        recipe: Whose `progressive_resizing` may be None: then it is the full size.
        epoch: Of `recipe.epochs`.
        full_size: In which images are validated and tested, px.
    """
    growing = recipe.progressive_resizing
    if growing is None:
        return full_size
    progress = min(1.0, (epoch - 1) / (growing.until * recipe.epochs))
    step = max(1, full_size // 8)
    num_steps = math.ceil((full_size - growing.initial_size) / step)
    return min(full_size, growing.initial_size + step * math.floor(progress * num_steps + 0.5))


def check_sizes(recipe: schema.Recipe, model: nn.Module, in_channels: int, full_size: int) -> None:
    """Tries the smallest images.

    Raises:
        ConfigError: They are not smaller, never reach their full size, or the network does not take them.
    """
    if recipe.progressive_resizing is None:
        return
    key, smallest = "recipe.progressive_resizing", recipe.progressive_resizing.initial_size
    if smallest >= full_size:
        raise ConfigError(f"must be below data.image_size {full_size} (got {smallest})", key=f"{key}.initial_size")
    if training_size(recipe, recipe.epochs, full_size) < full_size:
        raise ConfigError(
            f"images would not reach their full size in {recipe.epochs} epochs; train for more, or set it to null",
            key=key,
        )
    model.eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, in_channels, smallest, smallest))
    except RuntimeError as error:
        raise ConfigError(
            f"this network does not take images of {smallest} px; it needs a global pooling before its linear layers, "
            f"or a larger initial_size",
            key=key,
        ) from error
