"""One of the three sets of images: train, val or test."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cnntrain.data.source import Labels, Stored
from cnntrain.data.splits import Indices


@dataclass(frozen=True)
class Split:
    """Images as bytes, held once, in the memory of one device.

    Attributes:
        images: uint8 (N, stored_size, stored_size, C); channels last, as decoders give and convolutions like them.
        targets: int64 (N,).
        names: A name for each image, to be shown to people.
        sha256: Over, for each image in order, the sha256 of its file (or, in sets that come as one array, of its
            pixels) and its label as 8 bytes, little end first. It does not depend on how images are resized.
    """

    images: Tensor
    targets: Tensor
    names: Sequence[str]
    sha256: str

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W) and targets int64 (B,) at positions int64 (B,) on the same device."""
        return self.images.index_select(0, index).permute(0, 3, 1, 2), self.targets.index_select(0, index)

    def to(self, device: torch.device) -> "Split":
        """The same split in the memory of another device."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))


def make_split(stored: Stored, labels: Labels, names: Sequence[str], chosen: Indices) -> Split:
    """The chosen images of a part as a split.

    Args:
        stored: All images of the part.
        labels: int64 (N,), of all images.
        names: Of all images.
        chosen: int64 (M,), positions, sorted.
    """
    digest = hashlib.sha256()
    for image_digest, label in zip(stored.digests[chosen], labels[chosen].astype("<i8"), strict=True):
        digest.update(image_digest.tobytes() + label.tobytes())
    images = stored.images if len(chosen) == len(labels) else stored.images[chosen]
    return Split(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        targets=torch.from_numpy(labels[chosen]),
        names=[names[index] for index in chosen],
        sha256=digest.hexdigest(),
    )
