"""Handwritten digits, small and always at hand."""

from typing import TYPE_CHECKING

from cnntrain.data.sources.data_set import DataSet

if TYPE_CHECKING:
    from cnntrain.data.source import Source


def digits() -> "Source":
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries; no download, no test set of their own.

    Alpaydin and Kaynak: "Optical recognition of handwritten digits", UCI machine learning repository, 1998.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    from cnntrain.data.images.array_part import ArrayPart
    from cnntrain.data.source import Source

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    part = ArrayPart("digits", images, bunch.target.astype(np.int64))
    return Source(tuple("0123456789"), {"train": part}, DIGITS.channels, DIGITS.image_size)


DIGITS = DataSet(
    "digits", lambda _: digits(), channels=1, image_size=32, num_classes=10, without_root="which come with scikit-learn"
)
