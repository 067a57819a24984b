"""Images that are there more than once: those with the same pixels, whatever their files are."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnntrain.data.decode import decode_image
from cnntrain.data.preprocessing import Pixels
from cnntrain.data.reporter import Reporter
from cnntrain.data.similar import Pairs, near_pairs

Groups = npt.NDArray[np.int64]  # (N,): for each image, the position of the first image of its group


def pixel_digest(picture: Image.Image, content: bytes, name: Path, channels: int, enough_px: int) -> bytes:
    """The sha256 of an image's size and pixels, as `decode_image` gives them in full size.

    Args:
        picture: What `decode_image` made of it; where that is smaller than the image, it is decoded once more.
        content: Of its file.
        name: The file's.
        channels: 1 or 3.
        enough_px: What `decode_image` was given.
    """
    if min(picture.size) >= enough_px and content.startswith(b"\xff\xd8"):
        with Image.open(BytesIO(content), formats=("JPEG",)) as whole:
            if max(whole.size) > max(picture.size):
                picture = decode_image(content, channels, name)
    return hashlib.sha256(f"{picture.width}x{picture.height} ".encode() + picture.tobytes()).digest()


def group_copies(kind: str, digests: Pixels, thumbnails: Callable[[], Pixels], reporter: Reporter) -> Groups:
    """Which images are copies of each other, int64 (N,): the same number for those that are.

    Args:
        kind: `exact` (the same pixels), `near` (nearly the same, too; those in a row of small changes are together) or
            `none`.
        digests: uint8 (N, 32), of their pixels.
        thumbnails: uint8 (N, 16, 16, 3); asked for only for near copies.
        reporter: Shows a bar.
    """
    if kind == "none":
        return np.arange(len(digests))
    # Eight bytes of a sha256: among a million images, one in 30 million says that two are the same that are not.
    numbers = digests[:, :8].copy().view(np.uint64).ravel()
    _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    if kind == "near" and len(first) > 1:
        leaders = np.arange(len(first))
        for group in joined(near_pairs(thumbnails()[first], reporter), len(first)):
            leaders[group] = group[int(first[group].argmin())]
        first = first[leaders]
    groups: Groups = first[which]
    return groups


def joined(pairs: Iterable[Pairs], count: int) -> list[list[int]]:
    """Positions below `count` that pairs connect, by groups of two and more."""
    leader = list(range(count))

    def find(position: int) -> int:
        while leader[position] != position:
            leader[position] = position = leader[leader[position]]
        return position

    touched = set()
    for some in pairs:
        for first, second in some.tolist():
            leader[find(second)] = find(first)
            touched |= {first, second}
    groups = defaultdict(list)
    for position in sorted(touched):
        groups[find(position)].append(position)
    return list(groups.values())
