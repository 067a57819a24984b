"""Data sets known by name: scikit-learn's digits, and those that torchvision downloads."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnntrain.data.source import ArrayPart, Source
from cnntrain.errors import DataError

# Which files torchvision looks for, and where: what to say when there is no network.
_FILES = {
    "mnist": "MNIST/raw/{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}-ubyte",
    "fashion_mnist": "FashionMNIST/raw/{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}-ubyte",
    "cifar10": "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta} (from cifar-10-python.tar.gz)",
    "cifar100": "cifar-100-python/{train,test,meta} (from cifar-100-python.tar.gz)",
}


class Facts(NamedTuple):
    """What is known of a data set before it is there; `image_size` is the usual side of the network's input, px."""

    channels: int
    image_size: int
    num_classes: int


FACTS = {
    "digits": Facts(1, 32, 10),
    "mnist": Facts(1, 28, 10),
    "fashion_mnist": Facts(1, 28, 10),
    "cifar10": Facts(3, 32, 10),
    "cifar100": Facts(3, 32, 100),
}


def digits() -> Source:
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries; no download, no test set of their own.

    Alpaydin and Kaynak: "Optical recognition of handwritten digits", UCI machine learning repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    part = ArrayPart("digits", images, bunch.target.astype(np.int64))
    return Source(tuple("0123456789"), {"train": part}, channels=1, image_size=FACTS["digits"].image_size)


def torchvision_dataset(name: str, root: Path, *, show_progress: bool = False) -> Source:
    """MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100, downloaded into `root` (with checksums) when missing.

    Raises:
        DataError: The files are not there and cannot be downloaded, or are damaged.
    """
    from torchvision import datasets

    kind: Any = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }[name]
    is_new = not root.exists()
    try:
        # torchvision prints to stdout, which is for results, and always draws its bars on stderr.
        told = sys.stderr if show_progress else io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            train = _open_or_download(kind, root, train=True)
            test = _open_or_download(kind, root, train=False)
    except Exception as error:  # no network, no space, a damaged file: each raises its own kind
        if is_new:  # perhaps misspelt: leave nothing there
            _remove_empty(root)
        raise DataError(
            f"{name} is not in {root} and could not be downloaded or read ({_first_line(error)}). "
            f"Without network, put these files there: {root / _FILES[name]}; "
            f"or say where they are with --data-root DIR or CNNTRAIN_DATA"
        ) from error
    parts = {
        part: ArrayPart(part, np.asarray(found.data), np.asarray(found.targets, dtype=np.int64))
        for part, found in (("train", train), ("test", test))
    }
    channels = 1 if parts["train"].images.ndim == 3 else 3
    class_names = tuple(str(name).split(" - ")[0] if kind is datasets.MNIST else str(name) for name in train.classes)
    return Source(class_names, parts, channels=channels, image_size=parts["train"].images.shape[1])


def _open_or_download(kind: Any, root: Path, *, train: bool) -> Any:
    try:
        return kind(str(root), train=train, download=False)
    except RuntimeError:  # torchvision's way to say that the files are missing or fail their checksum
        root.mkdir(parents=True, exist_ok=True)
        return kind(str(root), train=train, download=True)


def _remove_empty(root: Path) -> None:
    for folder in [*sorted(root.rglob("*"), reverse=True), root]:
        with contextlib.suppress(OSError):  # a file, or a folder that holds one
            folder.rmdir()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
