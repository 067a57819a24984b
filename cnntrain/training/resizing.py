"""Progressive resizing: small images first, as fast.ai's DAWNBench entry of 2018 trained ImageNet."""

import math

import torch
from pydantic import Field, PositiveInt
from torch import nn

from cnntrain.config.section import ProperFraction, Section
from cnntrain.errors import ConfigError

_KEY = "recipe.progressive_resizing"


class ProgressiveResizing(Section):
    """Smaller images first: the network learns most of what it needs from them, in less time.

    They grow in steps of an eighth of their full size. The network must take images of any size (a global pooling).
    """

    initial_size: PositiveInt = Field(description="side of the training images in the first epoch, px")
    until: ProperFraction = Field(0.7, description="share of the epochs by which images have their full size")

    def size(self, epoch: int, num_epochs: int, full_size: int) -> int:
        """The side of the training images in an epoch, px: it grows evenly, in steps of an eighth of the full one.

        Args:
            epoch: From 1.
            num_epochs: Of the whole training.
            full_size: In which images are validated and tested, px.
        """
        progress = min(1.0, (epoch - 1) / (self.until * num_epochs))
        step = max(1, full_size // 8)
        num_steps = math.ceil((full_size - self.initial_size) / step)
        return min(full_size, self.initial_size + step * math.floor(progress * num_steps + 0.5))

    def check(self, network: nn.Module, in_channels: int, num_epochs: int, full_size: int) -> None:
        """Tries the smallest images.

        Raises:
            ConfigError: They are not smaller, never reach their full size, or the network does not take them.
        """
        if self.initial_size >= full_size:
            text = f"must be below data.image_size {full_size} (got {self.initial_size})"
            raise ConfigError(text, key=f"{_KEY}.initial_size")
        if self.size(num_epochs, num_epochs, full_size) < full_size:
            raise ConfigError(
                f"images would not reach their full size in {num_epochs} epochs; train for more, or set it to null",
                key=_KEY,
            )
        network.eval()
        try:
            with torch.inference_mode():
                network(torch.zeros(1, in_channels, self.initial_size, self.initial_size))
        except RuntimeError as error:
            raise ConfigError(
                f"this network does not take images of {self.initial_size} px; it needs a global pooling before its "
                f"linear layers, or a larger initial_size",
                key=_KEY,
            ) from error
