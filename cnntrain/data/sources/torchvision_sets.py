"""Data sets that torchvision downloads: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100."""

import contextlib
import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnntrain.data.sources.data_set import DataSet, Whereabouts
from cnntrain.errors import DataError

if TYPE_CHECKING:
    from cnntrain.data.source import Source

_IDX = "raw/{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}-ubyte"


def _open(where: Whereabouts, *, name: str, kind: str, files: str) -> "Source":
    """Downloads a data set (with checksums) where it is missing, and opens it.

    Args:
        where: `root` is where torchvision keeps it.
        name: In `data.source`.
        kind: As torchvision calls the class.
        files: Which it looks for: what to say when there is no network.

    Raises:
        DataError: The files are not there and cannot be downloaded, or are damaged.
    """
    from torchvision import datasets

    opener, root = getattr(datasets, kind), where.root
    is_new = not root.exists()
    try:
        # torchvision prints to stdout, which is for results, and always draws its bars on stderr.
        told = sys.stderr if where.reporter.shows_bars else io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            train = _open_or_download(opener, root, train=True)
            test = _open_or_download(opener, root, train=False)
    except Exception as error:  # no network, no space, a damaged file: each raises its own kind
        if is_new:  # perhaps misspelt: leave nothing there
            _remove_empty(root)
        raise DataError(
            f"{name} is not in {root} and could not be downloaded or read ({_first_line(error)}). "
            f"Without network, put these files there: {root / files}; "
            f"or say where they are with --data-root DIR or CNNTRAIN_DATA"
        ) from error
    return _as_source(train, test, numbered=kind == "MNIST")


def _as_source(train: Any, test: Any, *, numbered: bool) -> "Source":
    """Torchvision's two sets as one source; where classes are `numbered`, `7 - seven` is class `7`."""
    import numpy as np

    from cnntrain.data.images.array_part import ArrayPart
    from cnntrain.data.source import Source

    parts = {
        part: ArrayPart(part, np.asarray(data.data), np.asarray(data.targets, dtype=np.int64))
        for part, data in (("train", train), ("test", test))
    }
    images = parts["train"].images
    class_names = tuple(str(name).split(" - ")[0] if numbered else str(name) for name in train.classes)
    return Source(class_names, parts, channels=1 if images.ndim == 3 else 3, image_size=images.shape[1])


def _open_or_download(opener: Any, root: Path, *, train: bool) -> Any:
    try:
        return opener(str(root), train=train, download=False)
    except RuntimeError:  # torchvision's way to say that the files are missing or fail their checksum
        root.mkdir(parents=True, exist_ok=True)
        return opener(str(root), train=train, download=True)


def _remove_empty(root: Path) -> None:
    for folder in [*sorted(root.rglob("*"), reverse=True), root]:
        with contextlib.suppress(OSError):  # a file, or a folder that holds one
            folder.rmdir()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _described(name: str, kind: str, files: str, channels: int, image_size: int, num_classes: int) -> DataSet:
    opens = partial(_open, name=name, kind=kind, files=files)
    return DataSet(name, opens, channels=channels, image_size=image_size, num_classes=num_classes)


MNIST = _described("mnist", "MNIST", f"MNIST/{_IDX}", 1, 28, 10)
FASHION_MNIST = _described("fashion_mnist", "FashionMNIST", f"FashionMNIST/{_IDX}", 1, 28, 10)
CIFAR10 = _described(
    "cifar10",
    "CIFAR10",
    "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta} (from cifar-10-python.tar.gz)",
    3,
    32,
    10,
)
CIFAR100 = _described(
    "cifar100", "CIFAR100", "cifar-100-python/{train,test,meta} (from cifar-100-python.tar.gz)", 3, 32, 100
)
