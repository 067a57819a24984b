"""Near duplicates: images that were resized, encoded again, or made a little lighter or darker.

A perceptual hash finds candidates, and comparing thumbnails confirms them.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnntrain.data.arrays import Groups, Pairs
from cnntrain.data.copies import connected
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.data.reporter import Reporter

THUMBNAIL = 16  # side, px: what images are compared by
ENOUGH_PX = 256  # large JPEGs are decoded smaller, which takes a fraction of the time
_BITS, _MAX_DISTANCE = 64, 6
_AT_ONCE = 1024  # thumbnails that are turned to floating point at once
_MOST_UNLIKE = 0.04  # at most this share of a thumbnail's variance may differ
_FLAT = 8  # levels between darkest and brightest, below which a thumbnail has nothing to compare
_SAMPLE = 2000  # images from which the variety of a set is estimated


def thumbnail(picture: Image.Image) -> Pixels:
    """An image in RGB, of any size, as uint8 (16, 16, 3)."""
    return np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.uint8)


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


def perceptual_hash(thumbnails: Pixels) -> npt.NDArray[np.bool_]:
    """The sign of each of the 8x8 lowest frequencies against their median, bool (N, 64).

    pHash, as in Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, section 3.2.1,
    or https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html; but of 16x16 pixels, not 32x32.

    Args:
        thumbnails: uint8 (N, 16, 16, 3).
    """
    grey = thumbnails.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    side = grey.shape[1]
    places, frequencies = np.arange(side) + 0.5, np.arange(8)
    cosines = np.cos(np.pi / side * np.outer(frequencies, places)).astype(np.float32)  # the DCT's first rows
    cosines[0] /= np.sqrt(2)
    spectrum = (cosines @ grey @ cosines.T).reshape(-1, _BITS)
    median = np.median(spectrum[:, 1:], axis=1, keepdims=True)  # without the mean brightness
    return np.asarray(spectrum > median)


def is_lively(thumbnails: Pixels) -> npt.NDArray[np.bool_]:
    """Which thumbnails, uint8 (N, 16, 16, 3), are of more than a single colour: bool (N,)."""
    return np.asarray(np.ptp(thumbnails, axis=(1, 2, 3)) >= _FLAT)


def near_pairs(thumbnails: Pixels, reporter: Reporter) -> Iterator[Pairs]:
    """Pairs of images that are nearly the same, int64 (M, 2), a few at a time; each pair once.

    Two images are near when their hashes differ in at most 6 of 64 bits, and their thumbnails correlate so well that
    among all pairs of this set less than one such pair is expected by chance (see `chance_limit`). Images of a single
    colour are near to none.

    Args:
        thumbnails: uint8 (N, 16, 16, 3).
        reporter: Shows a bar.
    """
    lively = np.flatnonzero(is_lively(thumbnails))
    thumbnails = thumbnails[lively]
    limit = chance_limit(thumbnails)
    parts = np.array_split(thumbnails, 1 + len(lively) // _AT_ONCE)  # as floating point, all at once would be large
    likely = _candidates(np.concatenate([perceptual_hash(part) for part in parts]))
    for candidates in reporter.progress(likely, _MAX_DISTANCE + 1, "comparing images"):
        for start in range(0, len(candidates), _AT_ONCE):
            some = candidates[start : start + _AT_ONCE]
            products = _standardised(thumbnails[some[:, 0]]) * _standardised(thumbnails[some[:, 1]])
            yield lively[some[products.sum(axis=1) >= 1 - limit]]


def _candidates(bits: npt.NDArray[np.bool_]) -> Iterator[Pairs]:
    """Pairs of hashes with at most 6 unequal bits: those of each of 7 bands of bits.

    In one of the bands at least they agree, so it is enough to compare hashes that do: neighbours after sorting.
    """
    packed = np.packbits(bits, axis=1).view(np.uint64).ravel()
    parts = [bits[:, band :: _MAX_DISTANCE + 1] for band in range(_MAX_DISTANCE + 1)]
    bands = np.stack([part @ (1 << np.arange(part.shape[1])) for part in parts])
    for band in range(len(bands)):
        order = np.argsort(bands[band], kind="stable")
        codes, hashes = bands[band, order], packed[order]
        close_pairs = [np.empty((0, 2), dtype=np.int64)]
        first = np.arange(len(order))
        for shift in range(1, len(order)):
            first = first[: np.searchsorted(first, len(order) - shift)]
            first = first[codes[first] == codes[first + shift]]
            if not len(first):
                break
            close = first[_num_ones(hashes[first] ^ hashes[first + shift]) <= _MAX_DISTANCE]
            close_pairs.append(np.stack([order[close], order[close + shift]], axis=1))
        pairs = np.concatenate(close_pairs)
        known = (bands[:band, pairs[:, 0]] == bands[:band, pairs[:, 1]]).any(axis=0)
        yield pairs[~known]


_ONES = np.array([number.bit_count() for number in range(1 << 16)], dtype=np.uint8)


def _num_ones(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """How many bits are set in each, uint8 (N,)."""
    return np.asarray(_ONES[numbers.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.uint8))


def chance_limit(thumbnails: Pixels) -> float:
    """How unlike (1 - correlation) two images of a set may be, to be hardly so alike by chance; at most 0.04.

    Handwritten digits resemble each other more than photos do, and pictures of one scene still more. So the share of
    pairs that are unlike by less than x is taken as a power of x, through the 1 % and the 10 % of most similar pairs,
    and the limit is where less than one pair of the whole set is expected.

    Args:
        thumbnails: uint8 (N, 16, 16, 3).
    """
    num_images = len(thumbnails)
    sample = _standardised(thumbnails[np.random.default_rng(0).permutation(num_images)[:_SAMPLE]])
    unlike = 1 - (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    unlike = np.sort(unlike)[len(sample) :]  # the closest may be copies
    if len(unlike) < 100:
        return _MOST_UNLIKE
    near, far = np.maximum(np.quantile(unlike, [0.01, 0.1]), 1e-7)
    power = np.log(10) / max(np.log(far / near), 1e-7)
    share = 2 / (num_images * (num_images - 1))
    return float(min(_MOST_UNLIKE, near * (share / 0.01) ** (1 / power)))


def _standardised(thumbnails: Pixels) -> npt.NDArray[np.float32]:
    """float32 (N, 768), each of mean 0 and length 1: brightness and contrast do not count."""
    values = thumbnails.reshape(len(thumbnails), math.prod(thumbnails.shape[1:])).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6))
