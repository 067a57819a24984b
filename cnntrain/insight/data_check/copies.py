"""Images that are there more than once, and what that means for training."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np

from cnntrain.data.copies import connected
from cnntrain.data.images.similar import near_pairs
from cnntrain.data.reporter import Reporter
from cnntrain.insight.data_check.findings import Finding, Item, Severity
from cnntrain.insight.data_check.look import Look
from cnntrain.insight.data_check.samples import NO_CLASS, UNUSED, Inventory, Sample

Group = tuple[int, ...]  # positions of samples, ascending

_ACROSS_SPLITS = "keep it in one split: a network must not be tested on what it was trained on"
_IN_CLASSES = "keep it in the class that it belongs to"
_REPEATED = "keep one, unless it is meant to count several times"
_LOOK = "look at them; where they are copies (data.group_copies: near, for splits that are carved), "


def copy_findings(
    inventory: Inventory, looks: Sequence[Look], reporter: Reporter, *, near_are_copies: bool = False
) -> list[Finding]:
    """Copies and near copies: across splits, with several labels, and others.

    Args:
        inventory: Whose images.
        looks: What was seen of them.
        reporter: Shows a bar.
        near_are_copies: Whether the user counts near copies as copies (`data.group_copies: near`).
    """
    same = _same_pixels(looks)
    near = _nearly_same(same, looks, reporter)
    copies = [group for group in same if len(group) > 1]
    near_worst: Severity = "problem" if near_are_copies else "warning"
    kinds: tuple[tuple[str, list[Group], tuple[Severity, ...], str], ...] = (
        ("the same image", copies, ("problem", "problem", "warning"), ""),
        ("nearly the same image", near, (near_worst, near_worst, "notice"), _LOOK),
    )
    findings = []
    for what, groups, severities, hint in kinds:
        across, labelled, others = [], [], []
        for group in groups:
            members = [inventory.samples[index] for index in group]
            splits = {sample.split for sample in members} - {UNUSED}
            classes = {sample.class_name for sample in members} - {NO_CLASS}
            across += [group] if len(splits) > 1 else []
            labelled += [group] if len(classes) > 1 else []
            others += [group] if len(splits) < 2 and len(classes) < 2 else []
        for where, chosen, severity, advice in zip(
            ("in several splits", "in several classes", "more than once"),
            (across, labelled, others),
            severities,
            (_ACROSS_SPLITS, _IN_CLASSES, _REPEATED),
            strict=True,
        ):
            if chosen:
                items = tuple(_item(inventory.samples, looks, group) for group in chosen)
                findings.append(Finding(f"{what} {where}", severity, hint + advice, items, "group"))
    return findings


def _item(samples: Sequence[Sample], looks: Sequence[Look], group: Group) -> Item:
    seen = [looks[index] for index in group]
    if len({look.file_digest for look in seen}) == 1:
        how = "same file"
    elif len({look.pixel_digest for look in seen}) == 1:
        how = "same pixels"
    else:
        how = "nearly the same"
    return Item(tuple(samples[index].name for index in group), how, group)


def _same_pixels(looks: Sequence[Look]) -> list[Group]:
    """All readable images, those with the same pixels together."""
    groups = defaultdict(list)
    for index, look in enumerate(looks):
        if not look.fault:
            groups[look.pixel_digest].append(index)
    return [tuple(group) for group in groups.values()]


def _nearly_same(same: Sequence[Group], looks: Sequence[Look], reporter: Reporter) -> list[Group]:
    """Groups of images that are nearly the same, with their copies; those in a row of small changes are together."""
    if len(same) < 2:
        return []
    shown = [looks[group[0]].thumbnail for group in same]
    thumbnails = np.stack([thumbnail for thumbnail in shown if thumbnail is not None])  # all that can be read have one
    together = defaultdict(list)
    for group, first in zip(same, connected(near_pairs(thumbnails, reporter), len(same)).tolist(), strict=True):
        together[first].append(group)
    return [tuple(sorted(chain.from_iterable(groups))) for groups in together.values() if len(groups) > 1]
