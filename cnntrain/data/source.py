"""What every data set gives: a class list, and for each part (train, perhaps val, test) labels and examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cnntrain.data.arrays import Digests, Items, Labels
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.storage import Storage
from cnntrain.data.stores import Store


class Stored(NamedTuple):
    """The examples of a part, ready for batches.

    Attributes:
        store: Holds them, fitted.
        digests: uint8 (N, 32), the sha256 of each example as its source has it (a file, or values).
        content_digests: uint8 (N, 32), the sha256 of its content, which other files may share.
    """

    store: Store
    digests: Digests
    content_digests: Digests


class Part(Protocol):
    """The examples that a source has under one name."""

    @property
    def labels(self) -> Labels:
        """int64 (N,)."""

    @property
    def name_of(self) -> Callable[[int], str]:
        """The name of an example, to be shown to people, by its position; the function holds on to no example."""

    def load(self, preprocessing: Preprocessing, storage: Storage, reporter: Reporter) -> Stored:
        """All examples, fitted, held as asked for.

        Raises:
            DataError: Some cannot be read; the message names them.
            StorageError: The cache cannot be written.
        """

    def thumbnails(self, reporter: Reporter) -> Items:
        """What near copies are found by; of images uint8 (N, 16, 16, 3).

        Raises:
            DataError: An example cannot be read.
        """

    def is_cached(self, preprocessing: Preprocessing) -> bool:
        """Whether the examples, fitted, are in the cache on disk."""


@dataclass(frozen=True)
class Source:
    """A data set as it was found.

    Attributes:
        class_names: Name of each label.
        parts: `train`, and `val` and `test` where the source has them.
        channels: As the images have them.
        image_size: The usual side of the network's input, px.
        notices: What the user should know, one sentence each.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Part]
    channels: int
    image_size: int
    notices: tuple[str, ...] = field(default=())
