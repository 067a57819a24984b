"""One of the three sets of images: train, val or test."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnntrain.data.carve import Indices
from cnntrain.data.preprocessing import Pixels
from cnntrain.data.source import Part, Stored


@dataclass(frozen=True)
class Split:
    """Images as bytes, held once, in the memory of one device.

    Attributes:
        images: uint8 (N, stored_size, stored_size, C); channels last, as decoders give and convolutions like them.
        targets: int64 (N,).
        names: A name for each image, to be shown to people.
        digests: uint8 (N, 32), the sha256 of each image's file (or, in sets that come as one array, of its pixels).
    """

    images: Tensor
    targets: Tensor
    names: Sequence[str]
    digests: Pixels

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W) and targets int64 (B,) at positions int64 (B,) on the same device."""
        return self.images.index_select(0, index).permute(0, 3, 1, 2), self.targets.index_select(0, index)

    def to(self, device: torch.device) -> "Split":
        """The same split in the memory of another device."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))

    def identity(self) -> dict[str, Any]:
        """The number of images, and a sha256 that does not depend on how they are resized.

        It is taken over, image by image, the image's digest and its label (8 bytes, little end first).
        """
        digest = hashlib.sha256()
        for image_digest, label in zip(self.digests, self.targets.cpu().numpy().astype("<i8"), strict=True):
            digest.update(image_digest.tobytes() + label.tobytes())
        return {"num_images": len(self), "sha256": digest.hexdigest()}

    def copies_of(self, other: "Split") -> list[int]:
        """Positions of the images that the other split holds too, byte for byte."""
        known = {digest.tobytes() for digest in other.digests}
        return [index for index, digest in enumerate(self.digests) if digest.tobytes() in known]


def make_split(stored: Stored, part: Part, chosen: Indices) -> Split:
    """The chosen images of a part as a split.

    Args:
        stored: All images of the part.
        part: Their labels and names.
        chosen: int64 (M,), positions, sorted.
    """
    whole, names = len(chosen) == len(part.labels), part.names
    return Split(
        images=torch.from_numpy(np.require(stored.images if whole else stored.images[chosen], requirements=["C", "W"])),
        targets=torch.from_numpy(part.labels[chosen]),
        names=[names[index] for index in chosen],
        digests=stored.digests[chosen],
    )
