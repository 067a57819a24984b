"""Prediction: image files in, ranked classes out. The checkpoint alone says how."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cnntrain.data.decode import fit_content, is_hidden, is_image_name, read_bytes
from cnntrain.data.preprocessing import Pixels, Preprocessing
from cnntrain.data.walking import walk
from cnntrain.errors import DataError
from cnntrain.runtime.device import exact_float32
from cnntrain.tasks.task import Decoded, Task


@dataclass(frozen=True)
class Prediction:
    """What a network makes of an image file."""

    image: str
    ranked: Decoded


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
    found = sorted(
        Path(parent, name)
        for parent, _, files in walk(folder, unreadable)
        for name in files
        if is_image_name(name) and not is_hidden(name)
    )
    yield from found
    yield from map(DataError, unreadable)
    if not found and not unreadable:
        yield DataError(f"{folder}: no images in this folder")


@torch.inference_mode()
def classify(
    model: nn.Module,
    pixels: Sequence[Pixels],
    *,
    preprocessing: Preprocessing,
    task: Task[Any],
    device: torch.device,
    top: int,
) -> list[Decoded]:
    """For each image its classes with probabilities.

    Args:
        model: In evaluation mode, on `device`.
        pixels: At least one, uint8 (stored_size, stored_size, channels), as `fit_content` gives them.
        preprocessing: The checkpoint's.
        task: What the outputs mean.
        device: Where to compute, in float32.
        top: How many classes, at most.

    Raises:
        CheckpointError: The outputs are no finite numbers.
    """
    images = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2)
    with exact_float32():
        outputs = model(preprocessing.network_input(images))
    return task.decode(outputs, top)


def predict(
    model: nn.Module,
    files: Sequence[Path | DataError],
    *,
    preprocessing: Preprocessing,
    task: Task[Any],
    device: torch.device,
    top: int,
    batch_size: int = 32,
) -> Iterator[Prediction | DataError]:
    """For each file, in order, its classes with probabilities, or why it cannot be read.

    Args:
        model: In evaluation mode, on `device`.
        files: As `find_images` gives them.
        preprocessing: The checkpoint's.
        task: What the outputs mean.
        device: Where to compute, in float32.
        top: How many classes, at most.
        batch_size: Images at once.
    """
    for start in range(0, len(files), batch_size):
        opened = [_open(file, preprocessing) for file in files[start : start + batch_size]]
        pixels = [image for image in opened if not isinstance(image, DataError)]
        ranked = iter(
            classify(model, pixels, preprocessing=preprocessing, task=task, device=device, top=top) if pixels else ()
        )
        for file, image in zip(files[start : start + batch_size], opened, strict=True):
            yield image if isinstance(image, DataError) else Prediction(str(file), next(ranked))


def _open(file: Path | DataError, preprocessing: Preprocessing) -> Pixels | DataError:
    if isinstance(file, DataError):
        return file
    try:
        return fit_content(read_bytes(file), preprocessing, file)
    except DataError as error:
        return error
