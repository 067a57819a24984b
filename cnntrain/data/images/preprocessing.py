"""The one preprocessing that training, validation, test and predict share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from cnntrain.data.images.tensors import centre_crop
from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.data.pipeline import AugmentationPipeline

if TYPE_CHECKING:
    from cnntrain.data.images.augmentations.options import AugmentationOptions

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
    def item_shape(self) -> tuple[int, int, int]:
        """Of an image as it is stored: (stored_size, stored_size, channels)."""
        return (self.stored_size, self.stored_size, self.channels)

    @property
    def bytes_per_item(self) -> int:
        """Of an image as it is stored."""
        return math.prod(self.item_shape)

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

    def laid_out(self, items: Tensor) -> Tensor:
        """Stored images uint8 (N, H, W, C) as augmentations take them: (N, C, H, W), channels last in memory."""
        return items.permute(0, 3, 1, 2)

    def normalise(self, batch: Tensor) -> Tensor:
        """uint8 or float32 in [0, 1], (N, C, H, W) -> float32: (image - mean) / std, channels last in memory."""
        factor, shift = _rows_of(self.mean, self.std, batch.dtype, batch.shape[3], batch.device)
        # In place, on whole rows of (width x channels): ten times as fast as on (B, C, H, W), where each run is of C.
        rows = batch.permute(0, 2, 3, 1).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        rows.flatten(2).mul_(factor).add_(shift)
        return rows.permute(0, 3, 1, 2)

    def show(self, batch: Tensor) -> Tensor:
        """What the network was given, for people to look at: float32 (N, C, H, W) -> uint8 (N, H, W, C) on the CPU."""
        std, mean = torch.tensor(self.std), torch.tensor(self.mean)
        levels = (batch.float().cpu().permute(0, 2, 3, 1) * std + mean) * 255
        return levels.round().clamp(0, 255).to(torch.uint8)

    def network_input(self, items: Tensor) -> Tensor:
        """Stored images uint8 (N, stored_size, stored_size, C) -> float32 (N, C, image_size, image_size)."""
        return self.normalise(centre_crop(self.laid_out(items), self.image_size))

    def resized(self, batch: Tensor, size: int) -> Tensor:
        """Normalised images at another size, px: float32 (N, C, H, W) -> (N, C, size, size)."""
        if size == batch.shape[-1]:
            return batch
        return F.interpolate(batch, size=(size, size), mode="bilinear", antialias=True)

    def augmentation(self, options: "Sequence[AugmentationOptions]", num_outputs: int) -> AugmentationPipeline:
        """What a list of augmentations does to stored images; where none of them crops, the central crop is first.

        Args:
            options: `data.augment`.
            num_outputs: K, the width of targets where labels are mixed.
        """
        from cnntrain.data.images.augmentations.crops import CentreCrop  # whose options are built for this
        from cnntrain.data.images.augmentations.mixing import Mixer, Mixing

        built = [option.build(self) for option in options]
        steps = [made for made in built if not isinstance(made, Mixer)]
        mixers = tuple(made for made in built if isinstance(made, Mixer))
        if self.stored_size > self.image_size and not any(option.crops for option in options):
            steps.insert(0, CentreCrop(self.image_size))
        return AugmentationPipeline(tuple(steps), Mixing(mixers) if mixers else None, self, num_outputs)

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
def _rows_of(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a row of pixels is multiplied by, and what is then added: float32 (width * C,), channels last."""
    scale = 255.0 if dtype == torch.uint8 else 1.0
    values = [[1 / (scale * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]]
    factor, shift = torch.tensor(values, device=device).repeat(1, width)
    return factor, shift
