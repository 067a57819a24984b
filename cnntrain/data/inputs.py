"""What arrives at a network."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Inputs:
    """What one example is when it arrives at a network; a batch has one dimension more, in front.

    Attributes:
        kind: What the numbers are: `image`, the only kind so far.
        shape: (channels, *size); of an image (channels, height, width).
        dtype: Of the tensor, after normalisation.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def channels(self) -> int:
        """Values at each place: 1 for grey, 3 for colour images."""
        return self.shape[0]

    @property
    def size(self) -> tuple[int, ...]:
        """The sides, without the channels; of an image (height, width), px."""
        return self.shape[1:]


def image_inputs(channels: int, image_size: int) -> Inputs:
    """Square images, normalised.

    Args:
        channels: 1 for grey, 3 for colour.
        image_size: Side of the square, px.
    """
    return Inputs("image", (channels, image_size, image_size))
