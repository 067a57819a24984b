"""What data preparation would give, told without it."""

from typing import NamedTuple

from cnntrain.data.images.resolving import resolve_inputs
from cnntrain.data.inputs import Inputs
from cnntrain.data.options import Data
from cnntrain.data.places import whereabouts
from cnntrain.data.reporter import SILENT
from cnntrain.data.sources import SOURCES


class Expected(NamedTuple):
    """What will reach a network; `num_classes` is None where nobody knows yet."""

    inputs: Inputs
    num_classes: int | None


def expect_data(options: Data, *, data_root: str | None = None, num_classes: int | None = None) -> Expected:
    """What `prepare_data` would give, without loading or decoding an image: a folder is looked through, if it is there.

    Args:
        options: The `data` section.
        data_root: As `resolve_data_root` takes it.
        num_classes: Instead of the data's; no folder is looked through then.

    Raises:
        DataError: The folder is there, and not as it should be.
    """
    source = SOURCES[options.source]
    num_classes = num_classes or source.num_classes
    where = whereabouts(options, data_root, SILENT)
    if num_classes is None and source.class_names and where.root.is_dir():
        num_classes = len(source.class_names(where))
    return Expected(resolve_inputs(options, source.channels, source.image_size), num_classes)
