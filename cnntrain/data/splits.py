"""The three sets of examples together, as training takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.split import Split, brought_to


@dataclass(frozen=True)
class Splits:
    """The three sets of examples, which never share one.

    Attributes:
        where_held: Where the examples are held, for people.
        notices: What the user should know about the data, one sentence each.
        skipped: By the source's part, the examples that cannot be read and were left out, and why.
        same_pixels_in_train: How many examples of val and of test have a copy among those of training, however stored.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    where_held: str = ""
    notices: tuple[str, ...] = ()
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    same_pixels_in_train: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def on(self, device: torch.device, *, home: torch.device, num_processes: int = 1) -> "Splits":
        """The same for batches on another device; arguments as `brought_to`."""
        splits = (self.train, self.val, self.test)
        train, val, test = brought_to(splits, device, home=home, num_processes=num_processes)
        return replace(self, train=train, val=val, test=test)

    def identity(self) -> dict[str, dict[str, Any]]:
        """How many examples each split has and their hash; of val and test, how many are copies of those of training.

        `also_in_train` counts files that are the same byte for byte, `same_pixels_in_train` all with equal content.
        """
        identity: dict[str, dict[str, Any]] = {"train": self.train.identity()}
        for name, split in (("val", self.val), ("test", self.test)):
            copies = len(split.copies_of(self.train))
            same = self.same_pixels_in_train.get(name, copies)
            identity[name] = {**split.identity(), "also_in_train": copies, "same_pixels_in_train": same}
        return identity
