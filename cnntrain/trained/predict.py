"""Prediction: images in, ranked classes out. The checkpoint alone says how."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps

from cnntrain.data.images.decode import convert, faults_explained, fit_content, is_image_name, read_bytes
from cnntrain.data.images.preprocessing import Pixels, Preprocessing
from cnntrain.data.walking import is_hidden, walk
from cnntrain.errors import DataError
from cnntrain.runtime.device import exact_float32
from cnntrain.runtime.names import printable, shortened
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.tasks.task import Decoded

if TYPE_CHECKING:
    from cnntrain.trained.trained import Trained

GivenImage = str | os.PathLike[str] | bytes | Image.Image  # a path, the content of a file, or a Pillow image

_BATCH_SIZE = 32


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a network makes of an image.

    Attributes:
        image: The file, or which of the images that were given.
        ranked: (class, probability), likeliest first.
    """

    image: str
    ranked: Decoded

    @property
    def class_name(self) -> str:
        """The likeliest class."""
        return self.ranked[0][0]

    @property
    def probability(self) -> float:
        """Of the likeliest class."""
        return self.ranked[0][1]

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain values, of the `top` likeliest classes; None takes all that there are."""
        return {
            "image": self.image,
            "predictions": [{"class": name, "probability": share} for name, share in self.ranked[:top]],
        }

    def __repr__(self) -> str:
        ranked = ", ".join(f"{shortened(name)} {100 * share:.2f} %" for name, share in self.ranked)
        return f"Prediction({printable(self.image)}: {ranked})"


def find_images(arguments: Sequence[str]) -> Iterator[Path | DataError]:
    """The files meant by names, folders (searched to the bottom) and globs, in order; or why there are none."""
    for argument in arguments:
        path = Path(argument)
        if os.path.isdir(path):  # noqa: PTH112 (which is false, instead of an error, where permission is missing)
            yield from _images_in(path)
        elif os.path.lexists(path) or not glob.has_magic(argument):
            yield path
        else:  # a pattern that the shell left as it is
            matches = sorted(Path(match) for match in glob.glob(argument, recursive=True))  # noqa: PTH207 (takes absolute patterns too)
            files = [match for match in matches if match.is_file()]
            yield from files
            if not files:
                yield DataError(f"{argument}: no file matches this pattern")


def _images_in(folder: Path) -> Iterator[Path | DataError]:
    """The images of a folder and of those below it; also why some of these cannot be looked into."""
    unreadable: list[str] = []
    images = sorted(
        Path(parent, name)
        for parent, _, files in walk(folder, unreadable)
        for name in files
        if is_image_name(name) and not is_hidden(name)
    )
    yield from images
    yield from map(DataError, unreadable)
    if not images and not unreadable:
        yield DataError(f"{folder}: no images in this folder")


@torch.inference_mode()
def classify(trained: "Trained", pixels: Sequence[Pixels], top: int) -> list[Decoded]:
    """For each image its classes with probabilities.

    Args:
        trained: Computes in float32.
        pixels: At least one, uint8 (stored_size, stored_size, channels), as `fit_content` gives them.
        top: How many classes, at most.

    Raises:
        CheckpointError: The outputs are no finite numbers.
    """
    images = torch.from_numpy(np.stack(pixels)).to(trained.device)
    with exact_float32():
        outputs = trained.network(trained.preprocessing.network_input(images))
    return trained.task.decode(outputs, top)


def predict_each(
    trained: "Trained",
    images: Sequence[GivenImage | DataError],
    top: int,
    *,
    processes: Processes = ALONE,
    at_once: int = 1,
    goes_on: Callable[[], bool] = lambda: True,
) -> Iterator[Prediction | DataError]:
    """For each image, in order, its classes with probabilities, or why it cannot be read.

    Args:
        trained: Computes in float32, 32 images at once.
        images: For instance as `find_images` gives them.
        top: How many classes, at most.
        processes: That share the images, and are all told the outcomes.
        at_once: How many of them on this machine have cores for the network at a time; all decode at once.
        goes_on: Asked before 32 images of each process: whether the outcomes are still wanted, by all of them.

    Raises:
        CheckpointError: The outputs are no finite numbers.
    """
    turn, num_turns = processes.local_rank // at_once, -(-processes.local_count // at_once)
    num_turns = max(processes.gather(num_turns))
    for start in range(0, len(images), _BATCH_SIZE * processes.count):
        if processes.any(not goes_on()):
            return
        first = start + processes.rank * _BATCH_SIZE
        some = [
            (_name_of(image, f"images[{position}]"), image)
            for position, image in enumerate(images[first : first + _BATCH_SIZE], first)
        ]
        opened = [_open(image, name, trained.preprocessing) for name, image in some]
        own = list[Prediction | DataError]()
        for number in range(num_turns):
            if number == turn:
                own = _outcomes(trained, [name for name, _ in some], opened, top)
            if num_turns > 1:
                processes.any(False)  # until these are done
        for outcomes in processes.gather(own):
            yield from outcomes


def _outcomes(
    trained: "Trained", names: Sequence[str], opened: Sequence[Pixels | DataError], top: int
) -> list[Prediction | DataError]:
    pixels = [image for image in opened if not isinstance(image, DataError)]
    ranked = iter(classify(trained, pixels, top) if pixels else ())
    return [
        image if isinstance(image, DataError) else Prediction(name, next(ranked))
        for name, image in zip(names, opened, strict=True)
    ]


def predict_all(trained: "Trained", images: Sequence[GivenImage], top: int) -> list[Prediction]:
    """As `predict_each`, of images that can all be read.

    Raises:
        DataError: One cannot be read.
        ValueError: `top` is no number of classes.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1 (got {top})")
    predictions = []
    for outcome in predict_each(trained, images, top):
        if isinstance(outcome, DataError):
            raise outcome
        predictions.append(outcome)
    return predictions


def _name_of(image: GivenImage | DataError, otherwise: str) -> str:
    """What messages call an image: the name of its file, if it has one."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    name = getattr(image, "filename", "")
    return name if isinstance(name, str) and name else otherwise


def _open(image: GivenImage | DataError, name: str, preprocessing: Preprocessing) -> Pixels | DataError:
    """An image as it is stored for the network, uint8 (stored_size, stored_size, channels); or why it is not."""
    try:
        match image:
            case DataError():
                return image
            case Image.Image():
                return _fit_picture(image, Path(name), preprocessing)
            case bytes():
                return fit_content(image, preprocessing, Path(name))
        return fit_content(read_bytes(Path(image)), preprocessing, Path(name))
    except DataError as error:
        return error


def _fit_picture(picture: Image.Image, name: Path, preprocessing: Preprocessing) -> Pixels:
    stream = picture.fp if isinstance(picture, ImageFile.ImageFile) and picture.tell() == 0 else None
    if stream is not None:  # not decoded yet: then as its file, so that all are decoded alike
        position = stream.tell()
        stream.seek(0)
        content = stream.read()
        stream.seek(position)
        return fit_content(content, preprocessing, name)
    with faults_explained(name):
        return preprocessing.fit(convert(ImageOps.exif_transpose(picture), preprocessing.channels))
