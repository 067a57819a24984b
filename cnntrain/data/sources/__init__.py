"""The table of data sets: what a configuration can name in `data.source`, each beside the code that opens it.

Nothing here imports PyTorch before a data set is opened.
"""

from typing import TYPE_CHECKING, Literal

from cnntrain.data.sources.data_set import DataSet
from cnntrain.data.sources.digits import DIGITS
from cnntrain.data.sources.image_folder import IMAGE_FOLDER
from cnntrain.data.sources.torchvision_sets import CIFAR10, CIFAR100, FASHION_MNIST, MNIST

SOURCES: dict[str, DataSet] = {
    source.name: source
    for source in (
        DIGITS,
        MNIST,
        FASHION_MNIST,
        CIFAR10,
        CIFAR100,
        IMAGE_FOLDER,
    )
}

if TYPE_CHECKING:
    SourceName = str
else:
    SourceName = Literal[tuple(SOURCES)]


def is_folder(name: str | None) -> bool:
    """Whether a source, named as in `data.source`, is a folder of one's own files."""
    return name in SOURCES and SOURCES[name].is_folder
