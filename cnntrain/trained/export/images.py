"""The real images on which an exported network is compared with the original."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cnntrain.data.images.decode import fit_content, read_bytes
from cnntrain.data.reporter import Reporter
from cnntrain.errors import ConfigError, DataError
from cnntrain.trained import Trained
from cnntrain.trained.evaluate import find_split
from cnntrain.trained.export.agreement import RealImages
from cnntrain.trained.predict import find_images

Item = TypeVar("Item")

MOST_IMAGES = 256  # to compare on

_KINDS = {"test": "test", "val": "validation", "train": "training"}


def images_of_run(trained: Trained, *, data_root: str | None, reporter: Reporter) -> RealImages:
    """Test images of the run, evenly chosen; where it had none, those of validation or training.

    Args:
        trained: The network.
        data_root: Where data sets live, if not where they were in training.
        reporter: Tells the user what takes its time.

    Raises:
        DataError: The data are missing, or have other classes than the network.
    """
    name = next(name for name in _KINDS if trained.header.splits[name]["num_images"])
    try:
        split = find_split(trained, name, data_root=data_root, reporter=reporter).split
    except DataError as error:
        error.add_note("an export is compared with the original on real images: --images PATH takes others")
        raise
    chosen = _evenly(range(len(split)))
    return RealImages(split.items(chosen), f"{len(chosen)} of {len(split):,} {_KINDS[name]} images")


def given_images(trained: Trained, arguments: Sequence[str]) -> RealImages:
    """Images of files, folders and globs, evenly chosen.

    Raises:
        ConfigError: An argument is empty.
        DataError: An image is missing or cannot be read.
    """
    if "" in arguments:
        raise ConfigError("--images is empty; is a variable of the shell not set?")
    files = list(find_images(arguments))
    for file in files:
        if isinstance(file, DataError):
            raise file
    chosen = _evenly([file for file in files if isinstance(file, Path)])
    pixels = np.stack([fit_content(read_bytes(file), trained.preprocessing, file) for file in chosen])
    return RealImages(pixels, f"{len(chosen)} of {len(files):,} images of {', '.join(arguments)}")


def _evenly(items: Sequence[Item]) -> list[Item]:
    """At most `MOST_IMAGES` of them, from the first to the last: those of one class often stand together."""
    count = min(len(items), MOST_IMAGES)
    return [items[index * len(items) // count] for index in range(count)]
