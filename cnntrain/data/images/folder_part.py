"""The images of a folder, from files to what batches are taken from."""

import hashlib
import math
import warnings
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnntrain.data import cache
from cnntrain.data.arrays import Labels
from cnntrain.data.images.decode import decode_image, enough_for, fit_content, read_bytes
from cnntrain.data.images.digests import is_jpeg, pixel_digest
from cnntrain.data.images.folder_files import Decode, FolderFiles
from cnntrain.data.images.formats import formats
from cnntrain.data.images.preprocessing import Pixels, Preprocessing
from cnntrain.data.images.similar import ENOUGH_PX, THUMBNAIL, thumbnail
from cnntrain.data.mending import Mending
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Stored
from cnntrain.data.storage import Storage, describe_size
from cnntrain.data.stores import MappedStore, ResidentStore, Store, StreamedStore
from cnntrain.errors import DataError, StorageError
from cnntrain.runtime.machine import available_cores

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class FolderPart:
    """The images of one folder of class folders.

    Attributes:
        folder: What `files` are relative to.
        files: Sorted by class, then by name.
        labels: int64 (N,).
        num_workers: Threads that decode; None takes one for each core.
        is_mixed: Whether files of several formats are among the images of the whole source; see `pixel_digest`.
        unreadable_folders: A line for each folder below that cannot be read; nobody knows how many images it holds.
    """

    folder: Path
    files: tuple[str, ...]
    labels: Labels
    num_workers: int | None = None
    is_mixed: bool = True
    unreadable_folders: tuple[str, ...] = ()

    @property
    def name_of(self) -> Callable[[int], str]:
        """The path below the folder's parent, such as `train/cats/1.jpg`."""
        return self._kept_files.name_of

    @cached_property
    def _kept_files(self) -> FolderFiles:
        return FolderFiles.of(self.folder, self.files)

    def load(self, preprocessing: Preprocessing, storage: Storage, reporter: Reporter) -> Stored:
        """All images, decoded by several threads, or from the cache when files and preprocessing are unchanged.

        What is streamed is decoded once beforehand as well, where no earlier start has done so: a broken file should
        be known before the first epoch.

        Raises:
            DataError: Images cannot be used.
            StorageError: The images were to be kept on disk, and cannot be.
        """
        files_key, shape = cache.key_of(self.folder, self.files), (len(self.files), *preprocessing.item_shape)
        decode = Decode(self._kept_files, preprocessing)
        if storage.kind == "stream":
            digests = self._digests(files_key, shape, preprocessing, reporter)
            store: Store = StreamedStore(decode, shape[1:], self.num_workers, _CPU)
            return Stored(store, digests[:, :32], digests[:, 32:])

        key, is_mapped = _images_key(files_key, preprocessing), storage.kind == "cache"
        decoded = cache.load_images(
            key, shape, reporter.say, mapped=storage.maps_cache, check=not is_mapped, memory=storage.memory
        )
        if decoded:
            digests = self._digests(files_key, shape, preprocessing, reporter)
        else:
            decoded, digests = self._decode_all(key, shape, preprocessing, storage, reporter)
            cache.keep(self._digests_key(files_key, preprocessing), digests)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and nobody writes
            images = torch.from_numpy(decoded.images)
        if is_mapped:
            store = MappedStore(images, _CPU, Mending(key, decoded.seals, decode, reporter.say))
        else:
            store = ResidentStore(images, _CPU)
        return Stored(store, digests[:, :32], digests[:, 32:])

    def thumbnails(self, reporter: Reporter) -> Pixels:
        """See `Part`; made once for the same files."""

        def small(index: int) -> Pixels:
            path = self.folder / self.files[index]
            return thumbnail(decode_image(read_bytes(path), 3, path, ENOUGH_PX))

        def make() -> Pixels:
            with ThreadPoolExecutor(self._num_threads or 1) as pool:
                made = reporter.progress(pool.map(small, range(len(self.files))), len(self.files), "thumbnails")
                return np.fromiter(made, dtype=(np.uint8, (THUMBNAIL, THUMBNAIL, 3)), count=len(self.files))

        key = cache.key_of_text(f"thumbnails {cache.key_of(self.folder, self.files)}")
        return cache.remember(key, make, np.uint8, (len(self.files), THUMBNAIL, THUMBNAIL, 3), reporter.say)

    def _digests(self, files_key: str, shape: cache.Shape, preprocessing: Preprocessing, reporter: Reporter) -> Pixels:
        """Of each file, then of each image's pixels: uint8 (N, 64); every image is decoded, once for the same files."""

        def look() -> Pixels:
            digests = np.empty((len(self.files), 64), dtype=np.uint8)
            for _ in self._decoded(shape, preprocessing, digests, reporter):
                pass
            return digests

        key = self._digests_key(files_key, preprocessing)
        return cache.remember(key, look, np.uint8, (len(self.files), 64), reporter.say)

    def _digests_key(self, files_key: str, preprocessing: Preprocessing) -> str:
        # JPEGs alone are decoded as small as is enough, so the size matters.
        decoded = "whole" if self.is_mixed else enough_for(preprocessing)
        return cache.key_of_text(f"digests {preprocessing.channels} {decoded} {files_key}")

    def is_all_jpeg(self, reporter: Reporter) -> bool:
        """Whether all files are JPEGs, whatever their names; they are looked at once for the same files."""

        def look() -> Labels:
            return np.array([all(is_jpeg(self.folder / file) for file in self.files)], dtype=np.int64)

        try:
            key = cache.key_of_text(f"all JPEGs {cache.key_of(self.folder, self.files)}")
            return bool(cache.remember(key, look, np.int64, (1,), reporter.say)[0])
        except DataError:  # a file that is not even there: nothing to remember it by
            return bool(look()[0])

    def unreadable(self, preprocessing: Preprocessing, reporter: Reporter) -> dict[int, str]:
        """Which images cannot be used, by position, and why; every image is looked at, once for the same files."""

        def fault(index: int) -> str:
            path = self.folder / self.files[index]
            try:
                fit_content(read_bytes(path), preprocessing, path)
            except DataError as error:
                return str(error)
            return ""

        def look() -> Labels:
            with ThreadPoolExecutor(self._num_threads or 1) as pool:
                faults = pool.map(fault, range(len(self.files)))
                looked_at = reporter.progress(faults, len(self.files), f"looking at {self.folder.name}")
                return np.array([index for index, text in enumerate(looked_at) if text], dtype=np.int64)

        try:
            key = cache.key_of_text(
                f"unreadable {formats()} {_images_key(cache.key_of(self.folder, self.files), preprocessing)}"
            )
            positions = cache.remember(key, look, np.int64, (None,), reporter.say)
        except DataError:  # a file that is not even there, such as a dangling link: nothing to remember it by
            positions = look()
        faults = {int(index): fault(int(index)) for index in positions}
        return {index: text for index, text in faults.items() if text}

    def among_formats(self, *, is_mixed: bool) -> "FolderPart":
        """The same, of which is known whether files of several formats are among the images of its source."""
        return replace(self, is_mixed=is_mixed)

    def without(self, positions: Container[int]) -> "FolderPart":
        """The same without some images."""
        kept = [index for index in range(len(self.files)) if index not in positions]
        return replace(self, files=tuple(self.files[index] for index in kept), labels=self.labels[kept])

    @property
    def _num_threads(self) -> int:
        return available_cores() if self.num_workers is None else self.num_workers

    def is_cached(self, preprocessing: Preprocessing) -> bool:
        """Whether the decoded images are on disk, as far as can be seen without reading them."""
        key = _images_key(cache.key_of(self.folder, self.files), preprocessing)
        shape = (len(self.files), *preprocessing.item_shape)
        return cache.load_images(key, shape, lambda _: None, mapped=True, check=False) is not None

    def _decode_all(
        self,
        key: str,
        shape: cache.Shape,
        preprocessing: Preprocessing,
        storage: Storage,
        reporter: Reporter,
    ) -> tuple[cache.CachedImages, Pixels]:
        """Images, and digests as `_digests`, through the cache where it can be written, or must be."""
        size, free = math.prod(shape), cache.free_space()
        digests = np.empty((len(self.files), 64), dtype=np.uint8)
        images = self._decoded(shape, preprocessing, digests, reporter)
        problem = f"twice {describe_size(size)} are needed and {describe_size(free)} are free"
        if free > 2 * size:
            reporter.say(
                f"     decoding {len(self.files):,} images of {self.folder} into {describe_size(size)} "
                f"in {cache.folder()} ({describe_size(free)} free)"
            )
            try:
                cache.save_images(key, shape, images)
                cached = cache.load_images(
                    key, shape, reporter.say, mapped=storage.maps_cache, check=False, memory=storage.memory
                )
                if cached:
                    return cached, digests
                problem = "they were removed as soon as they were there"
            except OSError as error:
                problem = f"{error.strerror}"
                reporter.say(f"     note: {cache.folder()} cannot be written: {problem}")
            images = self._decoded(shape, preprocessing, digests, reporter)
        if storage.kind == "cache":
            raise StorageError(
                f"{cache.folder()} cannot hold the decoded images: {problem}; "
                f"set data.storage: stream, or XDG_CACHE_HOME to a larger disk"
            )
        decoded = storage.memory.empty(shape)
        for index, image in enumerate(images):
            decoded[index] = image
        return cache.CachedImages(decoded, digests[:, :0]), digests

    def _decoded(
        self, shape: cache.Shape, preprocessing: Preprocessing, digests: Pixels, reporter: Reporter
    ) -> Iterator[Pixels]:
        """The images in order; their digests are filled in. What cannot be read is told at the end, all at once."""
        faults: list[str] = []
        enough, channels = enough_for(preprocessing), preprocessing.channels

        def decode(index: int) -> Pixels:
            path = self.folder / self.files[index]

            def see(picture: Image.Image) -> None:
                pixels = pixel_digest(picture, content, path, channels, enough, whole=self.is_mixed)
                digests[index, 32:] = _bytes(pixels)

            try:
                content = read_bytes(path)
                digests[index, :32] = _bytes(hashlib.sha256(content).digest())
                return fit_content(content, preprocessing, path, see)
            except DataError as error:
                faults.append(str(error))
                return np.zeros(shape[1:], dtype=np.uint8)

        store = StreamedStore(decode, shape[1:], self.num_workers, _CPU)
        order, spans = torch.arange(len(self.files)), [slice(i, i + 256) for i in range(0, len(self.files), 256)]
        images = (image for batch in store.read(order, spans) for image in batch.numpy())
        yield from reporter.progress(images, len(self.files), f"decoding {self.folder.name}")
        if faults:
            more = [f"... and {len(faults) - 5} more"] if len(faults) > 5 else []
            raise DataError(
                f"{len(faults)} of {len(self.files)} images in {self.folder} cannot be used; repair or remove them:",
                more=[*sorted(faults)[:5], *more],
            )


def _bytes(digest: bytes) -> Pixels:
    return np.frombuffer(digest, dtype=np.uint8)


def _images_key(files_key: str, preprocessing: Preprocessing) -> str:
    how = (preprocessing.channels, preprocessing.stored_size, preprocessing.resize)
    return cache.key_of_text(f"images {how} {files_key}")
