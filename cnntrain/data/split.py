"""One of the three sets of examples: train, val or test."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from cnntrain.data.arrays import Digests, Items
from cnntrain.data.stores import Store
from cnntrain.runtime.names import printable


class Names(Sequence[str]):
    """Names of examples, made when they are asked for: as a list they would take more memory than small images."""

    def __init__(self, name_of: Callable[[int], str], positions: Tensor) -> None:
        self._name_of = name_of
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return Names(self._name_of, self._positions[index])
        return printable(self._name_of(int(self._positions[index])))


@dataclass(frozen=True)
class Split:
    """Some examples of a store, which other splits may share.

    Attributes:
        store: Holds them.
        positions: int64 (N,), where in the store, on the CPU.
        targets: int64 (N,), on the device that trains.
        name_of: The name of an example, to be shown to people, by its position in the store.
        digests: uint8 (N, 32), the sha256 of each example's file (or, in sets that come as one array, of its values).
    """

    store: Store
    positions: Tensor
    targets: Tensor
    name_of: Callable[[int], str]
    digests: Digests

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def names(self) -> Names:
        """A name for each example."""
        return Names(self.name_of, self.positions)

    def read(self, order: Tensor, spans: Sequence[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each span of an order, int64 (M,) on the CPU, items (B, *item_shape) as stored, and targets int64 (B,).

        Raises:
            DataError: An item cannot be read.
        """
        targets = self.targets[order.to(self.targets.device)]
        for span, items in zip(spans, self.store.read(self.positions[order], spans), strict=True):
            yield items, targets[span]

    def items(self, index: Sequence[int] | None = None) -> Items:
        """What is stored at these places of the split (None: at all of them): (B, *item_shape); images (B, H, W, C)."""
        chosen = self.positions if index is None else self.positions[list(index)]
        return next(self.store.read(chosen, [slice(None)])).cpu().numpy()

    def subset(self, index: Tensor) -> "Split":
        """The examples at these places of the split, int64 (M,), alone."""
        targets, digests = self.targets[index.to(self.targets.device)], self.digests[index.numpy()]
        return replace(self, positions=self.positions[index], targets=targets, digests=digests)

    def identity(self) -> dict[str, Any]:
        """The number of examples (`num_images`), and a sha256 that does not depend on how images are resized.

        It is taken over, one by one, the example's digest and its label (8 bytes, little end first).
        """
        labels = self.targets.cpu().numpy().astype("<i8").view(np.uint8).reshape(-1, 8)
        digest = hashlib.sha256(np.concatenate([self.digests, labels], axis=1).tobytes())
        return {"num_images": len(self), "sha256": digest.hexdigest()}

    def copies_of(self, other: "Split") -> list[int]:
        """Positions of the examples that the other split holds too, byte for byte."""
        known = {digest.tobytes() for digest in other.digests}
        return [index for index, digest in enumerate(self.digests) if digest.tobytes() in known]


def brought_to(
    splits: Iterable[Split], device: torch.device, *, home: torch.device, num_processes: int = 1
) -> list[Split]:
    """The same splits for batches on another device; what they share, they share there too.

    Args:
        splits: In any order.
        device: Where batches are wanted.
        home: Whose memory holds examples, where memory does.
        num_processes: That share this machine's cores.
    """
    splits = list(splits)
    stores = {
        store: store.on(device, home=home, num_processes=num_processes) for store in {split.store for split in splits}
    }
    return [replace(split, store=stores[split.store], targets=split.targets.to(device)) for split in splits]
