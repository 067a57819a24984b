"""The splits that carving makes where copies stay together, which is known when every image has been looked at."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnntrain.data.arrays import Groups
from cnntrain.data.copies import exact_copies, joined
from cnntrain.data.images.folder_part import FolderPart
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.data.images.similar import THUMBNAIL, near_copies
from cnntrain.data.layout import carved_fractions, lay_out, parts_in_order
from cnntrain.data.options import Data
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Source
from cnntrain.errors import DataError
from cnntrain.insight.data_check.look import Look
from cnntrain.insight.data_check.samples import Inventory, Sample


def carve_as_training(inventory: Inventory, looks: Sequence[Look], options: Data, reporter: Reporter) -> Inventory:
    """The same images, each in the split that training gives it.

    Args:
        inventory: With splits that were carved before anybody knew of copies.
        looks: What was seen of its images.
        options: The `data` section.
        reporter: Shows a bar.
    """
    source = inventory.source
    if source is None or options.group_copies == "none" or not any(carved_fractions(options, source).values()):
        return inventory
    places = _places(inventory.samples, source)
    num_train = len(source.parts["train"].labels)

    def groups() -> Groups:
        train = [looks[place] for place in places[:num_train]]
        digests = np.frombuffer(b"".join(map(_digest, train, range(num_train))), dtype=np.uint8).reshape(-1, 32)
        exact = exact_copies(digests)
        if options.group_copies != "near":
            return exact
        return joined(near_copies(np.stack([_thumbnail(looks[place]) for place in places]), reporter), exact)

    try:
        layout = lay_out(options, source, groups)
    except DataError as error:
        return replace(inventory, refusal=str(error))
    samples = list(inventory.samples)
    for split, owner in layout.owners.items():
        for index in layout.indices[split].tolist() if owner == "train" else ():
            samples[places[index]] = replace(samples[places[index]], split=split)
    return replace(inventory, samples=samples)


def _places(samples: Sequence[Sample], source: Source) -> list[int]:
    """Of each image of the source, part by part, where it is among the samples."""
    if not isinstance(source.parts["train"], FolderPart):  # the samples are those of all parts, in order
        return list(range(len(samples)))
    index_of = {sample.content.as_posix(): i for i, sample in enumerate(samples) if isinstance(sample.content, Path)}
    parts = [part for part in parts_in_order(source).values() if isinstance(part, FolderPart)]
    return [index_of[f"{part.folder.as_posix()}/{file}"] for part in parts for file in part.files]


def _digest(look: Look, index: int) -> bytes:
    """Of its pixels; what cannot be read is like nothing else."""
    return look.pixel_digest or hashlib.sha256(f"unreadable {index}".encode()).digest()


def _thumbnail(look: Look) -> Pixels:
    return np.zeros((THUMBNAIL, THUMBNAIL, 3), dtype=np.uint8) if look.thumbnail is None else look.thumbnail
