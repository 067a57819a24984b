"""The one preprocessing that training, validation, test and predict share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cnntrain.data.inputs import Inputs, image_inputs

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocessing:
    """From an image of any size to the network's input.

    First `fit`, once per image, with Pillow: to `stored_size`, 8 bits. Then, for each batch and on the
    device, a crop of `image_size` (central here; training may crop at random) and `normalise`.

    Attributes:
        channels: 1 grey, 3 RGB.
        image_size: Side of the network's square input, px.
        stored_size: Side of the images held in memory, px; at least `image_size`.
        resize: `crop` the central square, `letterbox` with black borders, or `squash` to a square.
        mean: Per channel, of images in [0, 1].
        std: Per channel, above 0.
    """

    channels: int
    image_size: int
    stored_size: int
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def inputs(self) -> Inputs:
        """What arrives at the network."""
        return image_inputs(self.channels, self.image_size)

    @property
    def bytes_per_image(self) -> int:
        """Of an image as it is stored."""
        return self.stored_size**2 * self.channels

    def fit(self, image: Image.Image) -> Pixels:
        """An image of mode L or RGB as uint8 (stored_size, stored_size, channels)."""
        size = (self.stored_size, self.stored_size)
        if image.size != size:
            match self.resize:
                case "crop":
                    image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
                case "letterbox":
                    image = ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=0)
                case "squash":
                    image = image.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(image, dtype=np.uint8).reshape(*size, self.channels)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 or float32 in [0, 1], (N, C, H, W) -> float32: (image - mean) / std, channels last in memory."""
        factor, shift = _rows_of(self.mean, self.std, images.dtype, images.shape[3], images.device)
        # In place, on whole rows of (width x channels): ten times as fast as on (B, C, H, W), where each run is of C.
        rows = images.permute(0, 2, 3, 1).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        rows.flatten(2).mul_(factor).add_(shift)
        return rows.permute(0, 3, 1, 2)

    def pixels(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`, for people to look at: uint8 (N, H, W, C) on the CPU."""
        std, mean = torch.tensor(self.std), torch.tensor(self.mean)
        levels = (images.float().cpu().permute(0, 2, 3, 1) * std + mean) * 255
        return levels.round().clamp(0, 255).to(torch.uint8)

    def network_input(self, images: Tensor) -> Tensor:
        """Stored images uint8 (N, C, stored_size, stored_size) -> float32 (N, C, image_size, image_size)."""
        return self.normalise(centre_crop(images, self.image_size))

    def sizes(self) -> dict[str, int]:
        """The keys of the `data` section that may be left open, as they were resolved."""
        return {"channels": self.channels, "image_size": self.image_size, "stored_size": self.stored_size}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


@cache
def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Constants float32 (1, C, 1, 1), sent to the device once, because sending them again would make it wait."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


@cache
def _rows_of(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a row of pixels is multiplied by, and what is then added: float32 (width * C,), channels last."""
    scale = 255.0 if dtype == torch.uint8 else 1.0
    values = [[1 / (scale * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]]
    factor, shift = torch.tensor(values, device=device).repeat(1, width)
    return factor, shift


def centre_crop(images: Tensor, size: int) -> Tensor:
    """(N, C, H, W) -> (N, C, size, size), any dtype."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]
