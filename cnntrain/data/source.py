"""What every data source gives: a class list, and for each part (train, perhaps val, test) labels and images."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cnntrain.data.decode import convert
from cnntrain.data.preprocessing import Pixels, Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.similar import thumbnail
from cnntrain.data.storage import Storage
from cnntrain.data.stores import ImageStore, ResidentImages

Labels = npt.NDArray[np.int64]


class Stored(NamedTuple):
    """The images of a part, ready for batches.

    Attributes:
        store: Holds them, fitted.
        digests: uint8 (N, 32), the sha256 of each image as its source has it (file or pixels).
        pixel_digests: uint8 (N, 32), the sha256 of its pixels.
    """

    store: ImageStore
    digests: Pixels
    pixel_digests: Pixels


class Part(Protocol):
    """The images that a source has under one name."""

    @property
    def labels(self) -> Labels:
        """int64 (N,)."""

    @property
    def name_of(self) -> Callable[[int], str]:
        """The name of an image, to be shown to people, by its position; the function holds on to no image."""

    def load(self, preprocessing: Preprocessing, storage: Storage, reporter: Reporter) -> Stored:
        """All images, fitted, held as asked for.

        Raises:
            DataError: Images cannot be read; the message names them.
            StorageError: The cache cannot be written.
        """

    def thumbnails(self, reporter: Reporter) -> Pixels:
        """What near copies are found by, uint8 (N, 16, 16, 3).

        Raises:
            DataError: An image cannot be read.
        """

    def is_cached(self, preprocessing: Preprocessing) -> bool:
        """Whether the images, fitted, are in the cache on disk."""


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


@dataclass(frozen=True)
class ArrayPart:
    """Images that come as one array: uint8 (N, H, W) grey or (N, H, W, 3)."""

    name: str
    images: Pixels
    labels: Labels

    @property
    def name_of(self) -> Callable[[int], str]:
        """`train/0`, `train/1`, ..."""
        name = self.name
        return lambda index: f"{name}/{index}"

    def load(self, preprocessing: Preprocessing, storage: Storage, reporter: Reporter) -> Stored:
        """All images, fitted, by the same path that an image file takes in `predict`."""
        digests = np.empty((len(self.images), 32), dtype=np.uint8)
        for index, image in enumerate(self.images):
            digests[index] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), dtype=np.uint8)
        images = torch.from_numpy(np.require(self._fit(preprocessing), requirements=["C", "W"])).to(storage.home)
        store = ResidentImages(images, storage.device)
        return Stored(store, digests, digests)

    def thumbnails(self, reporter: Reporter) -> Pixels:
        """See `Part`."""
        pictures = reporter.progress(map(Image.fromarray, self.images), len(self.images), "thumbnails")
        return np.stack([thumbnail(picture.convert("RGB")) for picture in pictures])

    def is_cached(self, preprocessing: Preprocessing) -> bool:
        """Never: there are no files to decode."""
        return False

    def _fit(self, preprocessing: Preprocessing) -> Pixels:
        images = self.images if self.images.ndim == 4 else self.images[..., None]
        wanted = (preprocessing.stored_size, preprocessing.stored_size, preprocessing.channels)
        if images.shape[1:] == wanted:
            return images
        pictures = (convert(Image.fromarray(image), preprocessing.channels) for image in self.images)
        return np.stack([preprocessing.fit(picture) for picture in pictures])
