"""A report as plain text."""

import math

import numpy as np

from cnntrain.insight.data_check.findings import SEVERITIES, Finding, Item, counted
from cnntrain.insight.data_check.report import Report
from cnntrain.runtime.names import shortened

_MANY_CLASSES = 30


def report_text(report: Report, examples: int = 5) -> list[str]:
    """Images and classes, then the findings, the worst first.

    Args:
        report: What was found.
        examples: Of each finding, how many to name.
    """
    lines = [*_summary(report), *(["", *_classes(report)] if report.counts else [])]
    if report.findings:
        lines += ["", f"{'severity':<9} {'how many':>14}  finding"]
    for finding in report.findings:
        lines += _finding_lines(report, finding, examples)
    return [*lines, "", totals_text(report)]


def totals_text(report: Report) -> str:
    """How much was found, in words."""
    counts = [(report.num_findings(severity), severity) for severity in SEVERITIES]
    worded = [counted(number, severity) for number, severity in counts if number]
    return ", ".join(worded) or "nothing found: no problems, no warnings, no notices"


def size_text(report: Report) -> str:
    """How many images and classes there are."""
    inventory = report.inventory
    return f"{counted(len(inventory.samples), 'image')}, {counted(len(inventory.class_names), 'class')}"


def member_text(report: Report, item: Item, position: int) -> str:
    """A name of an item; of a group's image, with its split, and with its class where the name does not say it."""
    name = item.names[position]
    if len(item.names) < 2:
        return name
    sample = report.inventory.samples[item.indices[position]]
    known = sample.class_name in name.split("/")
    return f"{name} [{sample.split}]" if known else f"{name} [{sample.class_name}, {sample.split}]"


def _item_text(report: Report, item: Item) -> str:
    names = " = ".join(member_text(report, item, position) for position in range(min(4, len(item.names))))
    more = f" = {len(item.names) - 4:,} more" if len(item.names) > 4 else ""
    return f"{names}{more}" + (f"  ({item.detail})" if item.detail else "")


def _summary(report: Report) -> list[str]:
    inventory = report.inventory
    lines = [f"{inventory.place}: {size_text(report)}"]
    if report.sizes:
        width, height = np.median(report.sizes, axis=0)
        ends = [" x ".join(map(str, choose(report.sizes, key=math.prod))) for choose in (min, max)]
        lines.append(f"sizes   {' to '.join(dict.fromkeys(ends))} px, median {width:.0f} x {height:.0f}")
    return [*lines, *(f"{split:<7} {origin}" for split, origin in inventory.origins.items())]


def _classes(report: Report) -> list[str]:
    splits = list(next(iter(report.counts.values()), {}))
    rows = [(shortened(name), of_class) for name, of_class in report.counts.items()]
    totals = {split: sum(of_class[split] for _, of_class in rows) for split in splits}
    if len(rows) > _MANY_CLASSES:
        shown = sorted(rows, key=lambda row: row[1].get("train", 0))
        rows = [*shown[:5], ("...", dict.fromkeys(splits, 0)), *shown[-5:]]
    width = max([5, *(len(name) for name, _ in rows)])
    lines = [f"{'class':<{width}}" + "".join(f"{split:>9}" for split in splits)]
    for name, of_class in rows:
        cells = ("" if name == "..." else f"{of_class[split]:,}" for split in splits)
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells).rstrip())
    return [*lines, f"{'all':<{width}}" + "".join(f"{totals[split]:>9,}" for split in splits)]


def _finding_lines(report: Report, finding: Finding, examples: int) -> list[str]:
    lines = [f"{finding.severity:<9} {finding.how_many:>14}  {finding.name}"]
    for item in finding.items[:examples]:
        lines += [" " * 28 + line for line in _item_text(report, item).splitlines()]
    if len(finding.items) > examples:
        lines.append(" " * 28 + f"... and {len(finding.items) - examples:,} more")
    return [*lines, " " * 26 + f"-> {finding.advice}"]
