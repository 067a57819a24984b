"""A report as a page with thumbnails."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from PIL import Image

from cnntrain.errors import DataError
from cnntrain.insight.data_check.findings import Finding, Item
from cnntrain.insight.data_check.look import open_picture
from cnntrain.insight.data_check.report import Report
from cnntrain.insight.data_check.samples import UNUSED
from cnntrain.reports.data_check.text import member_text, size_text, totals_text
from cnntrain.reports.pages import picture, render

_MAX_ITEMS = 24  # of a finding that are shown
_MAX_COPIES = 6  # of a group
_MAX_CLASSES = 100  # of which a sample is shown
_SIDE = 160  # px


@dataclass(frozen=True)
class Shown:
    """An image on the page: a thumbnail, or why there is none."""

    thumbnail: Markup
    caption: str


@dataclass(frozen=True)
class Bar:
    """A row of a table with a bar."""

    name: str
    count: int
    share: float  # of the longest bar


def report_page(report: Report) -> str:
    """The page, as HTML."""
    inventory = report.inventory
    findings = [(finding, *_shown_items(report, finding)) for finding in report.findings]
    splits = list(next(iter(report.counts.values()), {}))
    most = max((max(of_class.values()) for of_class in report.counts.values()), default=1)
    return render(
        "data_check.html",
        place=inventory.place,
        size=size_text(report),
        origins=inventory.origins,
        totals=totals_text(report),
        worst=report.findings[0].severity if report.findings else "",
        findings=findings,
        splits=splits,
        counts=report.counts,
        most=max(most, 1),
        samples=_samples(report),
        max_classes=_MAX_CLASSES,
        sizes=size_bars(report.sizes),
        median=np.median(report.sizes, axis=0).tolist() if report.sizes else [],
    )


def size_bars(sizes: Sequence[tuple[int, int]]) -> list[Bar]:
    """How many images have a longer side of this many px, in steps of doubling."""
    sides = np.array([max(size) for size in sizes], dtype=np.int64)
    if not len(sides):
        return []
    edges = 2 ** np.arange(np.log2(sides.min()).astype(int), np.log2(sides.max()).astype(int) + 2)
    counts = np.histogram(sides, [*edges[:-1], edges[-1]])[0]
    names = [f"{low:,} to {high - 1:,} px" if high - 1 > low else f"{low} px" for low, high in pairwise(edges)]
    return [Bar(name, int(count), float(count / counts.max())) for name, count in zip(names, counts, strict=True)]


def _shown_items(report: Report, finding: Finding) -> tuple[list[tuple[list[Shown], Item]], int]:
    """The first items of a finding with thumbnails, and how many more there are."""
    items = finding.items[:_MAX_ITEMS]
    shown = [
        (
            [
                _shown(report, index, member_text(report, item, at))
                for at, index in enumerate(item.indices[:_MAX_COPIES])
            ],
            item,
        )
        for item in items
    ]
    return shown, len(finding.items) - len(items)


def _samples(report: Report) -> list[Shown]:
    """An image of each class, one that training sees where there is one."""
    chosen: dict[str, int] = {}
    for index, sample in enumerate(report.inventory.samples):
        known = chosen.get(sample.class_name)
        better = known is None or (sample.split == "train" and report.inventory.samples[known].split != "train")
        if better and sample.split != UNUSED and not report.looks[index].fault:
            chosen[sample.class_name] = index
    return [_shown(report, index, name) for name, index in list(chosen.items())[:_MAX_CLASSES]]


def _shown(report: Report, index: int, caption: str) -> Shown:
    sample = report.inventory.samples[index]
    if report.looks[index].fault:
        return Shown(Markup(""), caption)
    try:
        image = open_picture(sample, _SIDE)
    except DataError:  # the file has changed in the meantime
        return Shown(Markup(""), caption)
    factor = _SIDE // 2 // max(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return Shown(picture(image, caption, "pixels" if factor > 1 else ""), caption)
