"""Images that come as one array."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from cnntrain.data.arrays import Labels
from cnntrain.data.images.decode import convert
from cnntrain.data.images.preprocessing import Pixels, Preprocessing
from cnntrain.data.images.similar import thumbnail
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Stored
from cnntrain.data.storage import Storage
from cnntrain.data.stores import ResidentStore


@dataclass(frozen=True)
class ArrayPart:
    """Images that come as one array: uint8 (N, H, W) grey or (N, H, W, 3)."""

    name: str
    images: Pixels
    labels: Labels

    @property
    def name_of(self) -> Callable[[int], str]:
        """`train/0`, `train/1`, ..."""
        return partial("{}/{}".format, self.name)

    def load(self, preprocessing: Preprocessing, storage: Storage, reporter: Reporter) -> Stored:
        """All images, fitted, by the same path that an image file takes in `predict`."""
        digests = np.empty((len(self.images), 32), dtype=np.uint8)
        for index, image in enumerate(self.images):
            digests[index] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), dtype=np.uint8)
        images = torch.from_numpy(np.require(self._fit(preprocessing), requirements=["C", "W"]))
        return Stored(ResidentStore(images, torch.device("cpu")), digests, digests)

    def thumbnails(self, reporter: Reporter) -> Pixels:
        """See `Part`."""
        pictures = reporter.progress(map(Image.fromarray, self.images), len(self.images), "thumbnails")
        return np.stack([thumbnail(picture.convert("RGB")) for picture in pictures])

    def is_cached(self, preprocessing: Preprocessing) -> bool:
        """Never: there are no files to decode."""
        return False

    def _fit(self, preprocessing: Preprocessing) -> Pixels:
        images = self.images if self.images.ndim == 4 else self.images[..., None]
        if images.shape[1:] == preprocessing.item_shape:
            return images
        pictures = (convert(Image.fromarray(image), preprocessing.channels) for image in self.images)
        return np.stack([preprocessing.fit(picture) for picture in pictures])
