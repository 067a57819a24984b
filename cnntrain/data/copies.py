"""Images that are there more than once: those with the same pixels, whatever their files are."""

import hashlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnntrain.data.decode import decode_image
from cnntrain.data.preprocessing import Pixels
from cnntrain.data.reporter import Reporter
from cnntrain.data.similar import Pairs, is_lively, near_pairs

_JPEG = b"\xff\xd8"  # how each one begins

Groups = npt.NDArray[np.int64]  # (N,): for each image, the position of the first image of its group


def is_jpeg(path: Path) -> bool:
    """Whether a file begins as a JPEG does, whatever its name; true of one that cannot be read, which has no copies."""
    try:
        if not path.is_file():  # a pipe would wait for its writer
            return True
        with path.open("rb", buffering=0) as file:
            return file.read(len(_JPEG)) == _JPEG
    except OSError:
        return True


def pixel_digest(
    picture: Image.Image, content: bytes, name: Path, channels: int, enough_px: int, *, whole: bool
) -> bytes:
    """The sha256 of an image's size and pixels.

    Large JPEGs are decoded smaller, all in the same way, so that copies stay copies; a PNG of the same pixels is not.

    Args:
        picture: What `decode_image` made of it.
        whole: Decode a JPEG once more where the picture is smaller than it: eight times as long for a photo of 12
            megapixels, and only needed where files of other formats are among them.
        content: Of its file.
        name: The file's.
        channels: 1 or 3.
        enough_px: What `decode_image` was given.
    """
    if whole and min(picture.size) >= enough_px and content.startswith(_JPEG):
        with Image.open(BytesIO(content), formats=("JPEG",)) as full:
            if max(full.size) > max(picture.size):
                picture = decode_image(content, channels, name)
    return hashlib.sha256(f"{picture.width}x{picture.height} ".encode() + picture.tobytes()).digest()


def exact_copies(digests: Pixels) -> Groups:
    """Which images have the same pixels, int64 (N,).

    Args:
        digests: uint8 (N, 32), of their pixels.
    """
    # Eight bytes of a sha256: among a million images, one in 30 million says that two are the same that are not.
    numbers = digests[:, :8].copy().view(np.uint64).ravel()
    _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    groups: Groups = first[which]
    return groups


def near_copies(thumbnails: Pixels, reporter: Reporter) -> Groups:
    """Which images have nearly the same thumbnail, int64 (N,); those in a row of small changes are together.

    What counts as near follows from all thumbnails, so other splits belong to them, wherever groups are asked for.

    Args:
        thumbnails: uint8 (N, 16, 16, 3).
        reporter: Shows a bar.
    """
    num_images = len(thumbnails)
    rows = np.ascontiguousarray(thumbnails).reshape(num_images, -1)
    _, first, which = np.unique(rows.view(f"V{rows.shape[1]}").ravel(), return_index=True, return_inverse=True)
    seen = np.sort(first)  # each thumbnail once, in order: a thousand copies would be half a million pairs
    twins = np.flatnonzero(is_lively(thumbnails))  # flat ones that look the same need not be
    links = [np.stack([twins, first[which[twins]]], axis=1)]
    links += [seen[pairs] for pairs in near_pairs(thumbnails[seen], reporter)]
    return connected(links, num_images)


def joined(groups: Groups, others: Groups) -> Groups:
    """Groups that part no two images which either keeps together, int64 (N,).

    Args:
        groups: int64 (N,).
        others: int64 (M,), of the first M images.
    """
    links = [np.stack([np.arange(len(some)), some], axis=1) for some in (groups, others)]
    return connected(links, len(groups))


def connected(pairs: Iterable[Pairs], count: int) -> Groups:
    """For each of `count` images the first one that pairs of images connect it with, int64 (count,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    some, others = np.concatenate([np.empty((0, 2), dtype=np.int64), *pairs]).T
    graph = coo_array((np.ones(len(some), dtype=np.int8), (some, others)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, leaders, group = np.unique(component, return_index=True, return_inverse=True)
    groups: Groups = leaders[group]
    return groups
