"""What the user should know about images that are there more than once: across splits, and with several labels."""

from collections.abc import Mapping

import numpy as np

from cnntrain.data.arrays import Groups, Indices
from cnntrain.data.split import Split

_PAIRS = (("val", "train", "training"), ("test", "train", "training"), ("test", "val", "validation"))
_NAMED = 3


def shared(groups: Mapping[str, Groups], name: str, other: str) -> Indices:
    """Places in one split of the images that have a copy in another, from the groups of each split's images."""
    return np.flatnonzero(np.isin(groups[name], groups[other]))


def copy_notices(splits: Mapping[str, Split], groups: Mapping[str, Groups], *, kind: str) -> list[str]:
    """One sentence each.

    Args:
        splits: By name.
        groups: Of each split's images, by the same names; a number means the same group in all of them.
        kind: `near` where groups hold nearly the same images too, else their pixels are the same.
    """
    what = "nearly the same image or its copy" if kind == "near" else "the same pixels"
    notices = []
    for name, other, of in _PAIRS:
        places = shared(groups, name, other)
        if len(places):
            twins = dict(zip(reversed(groups[other].tolist()), range(len(groups[other]) - 1, -1, -1), strict=True))
            pairs = (
                f"{splits[name].names[place]} = {splits[other].names[twins[int(groups[name][place])]]}"
                for place in places[:_NAMED].tolist()
            )
            notices.append(
                f"{len(places):,} of {len(splits[name]):,} {name} images are also in the {of} set ({what}): "
                f"{', '.join(pairs)}{_more(len(places))}. What is measured on {name} will look too good: keep each "
                f"image in one split (cnntrain data check names them all)"
            )
    if text := _several_labels(splits, groups):
        notices.append(f"{text} ({what}): at most one of the labels is right")
    return notices


def _several_labels(splits: Mapping[str, Split], groups: Mapping[str, Groups]) -> str:
    """Which images are in several classes; empty where none is."""
    numbers = np.concatenate([groups[name] for name in splits])
    labels = np.concatenate([split.targets.cpu().numpy() for split in splits.values()])
    of_one = np.unique(np.stack([numbers, labels], axis=1), axis=0)[:, 0]
    numbered, counts = np.unique(of_one, return_counts=True)
    several = numbered[counts > 1]
    if not len(several):
        return ""
    texts = []
    for group in several[:_NAMED].tolist():
        members = np.flatnonzero(numbers == group)
        _, first = np.unique(labels[members], return_index=True)
        texts.append(" = ".join(_name(splits, int(members[index])) for index in first[:4]))
    unit = "image is" if len(several) == 1 else "images are"
    return f"{len(several):,} {unit} in several classes, such as {', '.join(texts)}{_more(len(several))}"


def _name(splits: Mapping[str, Split], place: int) -> str:
    """The name of an image by its place among those of all splits."""
    for split in splits.values():
        if place < len(split):
            return split.names[place]
        place -= len(split)
    raise ValueError("there are fewer images")


def _more(number: int) -> str:
    return f" and {number - _NAMED:,} more" if number > _NAMED else ""
