"""Everything that was found in a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnntrain.data.images.cropping import ADVICE, MUCH, SOME, cut_share, measure_cut
from cnntrain.data.images.resolving import resolve_inputs
from cnntrain.data.options import Data
from cnntrain.data.reporter import Reporter
from cnntrain.data.sources import SOURCES
from cnntrain.insight.data_check.balance import Counts, balance_findings, count_classes
from cnntrain.insight.data_check.carving import carve_as_training
from cnntrain.insight.data_check.copies import copy_findings
from cnntrain.insight.data_check.findings import SEVERITIES, Finding, Item, Severity, look_findings, stray_findings
from cnntrain.insight.data_check.look import Look, look_at_all
from cnntrain.insight.data_check.samples import Inventory, take_inventory
from cnntrain.runtime.machine import available_cores


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        inventory: The images.
        looks: What was seen of each of them.
        counts: By class and split, how many there are.
        findings: The worst first.
    """

    inventory: Inventory
    looks: Sequence[Look]
    counts: Counts
    findings: Sequence[Finding]

    def num_findings(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of every readable image, px."""
        return [(look.width, look.height) for look in self.looks if not look.fault]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: everything, with the name of every file."""
        sides = np.array(self.sizes or [(0, 0)])
        return {
            "data": self.inventory.place,
            "num_images": len(self.inventory.samples),
            "splits": dict(self.inventory.origins),
            "classes": {name: dict(of_class) for name, of_class in self.counts.items()},
            "sizes": {
                side: {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}
                for side, values in zip(("width", "height"), sides.T, strict=True)
            },
            "findings": [self._finding_to_dict(finding) for finding in self.findings],
        }

    def _finding_to_dict(self, finding: Finding) -> dict[str, Any]:
        return {
            "finding": finding.name,
            "severity": finding.severity,
            "count": len(finding.items),
            "unit": finding.unit,
            "advice": finding.advice,
            "items": [self._item_to_dict(item) for item in finding.items],
        }

    def _item_to_dict(self, item: Item) -> dict[str, Any]:
        samples = [self.inventory.samples[index] for index in item.indices]
        named = [{"name": s.name, "class": s.class_name, "split": s.split} for s in samples]
        return {"detail": item.detail, "members": named or [{"name": name} for name in item.names]}


def inspect_data(options: Data, reporter: Reporter, *, data_root: str | None = None, knows_size: bool = True) -> Report:
    """Looks at every image of a data set, once.

    Args:
        options: The `data` section.
        reporter: Tells the user what takes its time.
        data_root: As `resolve_data_root` takes it.
        knows_size: Whether the configuration is the user's, so that images can be too small for it.

    Raises:
        ConfigError: The configuration contradicts itself.
        DataError: There is no such folder; or a data set is not there and cannot be downloaded.
    """
    inventory = take_inventory(options, data_root, reporter)
    reporter.say(f"looking at {len(inventory.samples):,} images of {inventory.place}")
    num_threads = available_cores() if options.num_workers is None else max(1, options.num_workers)
    source = SOURCES[options.source]
    inputs = resolve_inputs(options, source.channels, source.image_size)
    looks = look_at_all(inventory.samples, num_threads, reporter, channels=inputs.channels)
    inventory = carve_as_training(inventory, looks, options, reporter)
    counts = count_classes(inventory)
    findings = [
        *_layout_findings(inventory),
        *look_findings(
            inventory,
            looks,
            min_side=inputs.size[0] if knows_size else None,
            channels=inputs.channels,
            skips=options.on_error == "skip",
        ),
        *copy_findings(inventory, looks, reporter, near_are_copies=options.group_copies == "near"),
        *balance_findings(inventory, counts),
        *stray_findings(inventory.strays, skips=options.on_error == "skip"),
        *_cut_findings(inventory, looks, options.resize),
        *_size_findings(inventory, looks),
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(inventory, looks, counts, findings)


def _layout_findings(inventory: Inventory) -> list[Finding]:
    findings = []
    if inventory.refusal:
        advice = "lay it out as train/<class>/*, with val/ and test/ alike where you have them, or as <class>/*"
        reason = (Item((inventory.refusal,)),)
        findings.append(Finding("training would refuse this folder", "problem", advice, reason, "reason"))
    if inventory.warnings:
        advice, items = "see README, Your own photos", tuple(Item((text,)) for text in inventory.warnings)
        findings.append(Finding("classes that may not be what you mean", "warning", advice, items, "warning"))
    return findings


def _cut_findings(inventory: Inventory, looks: Sequence[Look], resize: str) -> list[Finding]:
    """What `resize: crop` would take away, the images that lose most first."""
    pictures = [index for index, look in enumerate(looks) if look.format and not look.fault]
    sizes = [(inventory.samples[index].name, looks[index].width, looks[index].height) for index in pictures]
    cut = measure_cut(sizes) if resize == "crop" else None
    if cut is None:
        return []
    shares = {index: cut_share(looks[index].width, looks[index].height) for index in pictures}
    losing = sorted((index for index in pictures if shares[index] >= SOME), key=lambda index: -shares[index])
    items = tuple(
        Item(
            (inventory.samples[index].name,),
            f"{100 * shares[index]:.0f} % of {looks[index].width} x {looks[index].height}",
            (index,),
        )
        for index in losing
    )
    worst, mean = 100 * cut.worst, 100 * cut.mean
    name = f"cut by data.resize: crop, {worst:.0f} % of the area at worst, {mean:.0f} % on average of all"
    severity: Severity = "warning" if cut.mean >= MUCH else "notice"
    return [Finding(name, severity, ADVICE, items)] if items else []


def _size_findings(inventory: Inventory, looks: Sequence[Look]) -> list[Finding]:
    """That sizes differ, with the smallest and the largest image."""
    areas = {index: look.width * look.height for index, look in enumerate(looks) if look.format and not look.fault}
    num_sizes = len({(looks[index].width, looks[index].height) for index in areas})
    if num_sizes < 2:
        return []
    items = []
    for index in (min(areas, key=areas.__getitem__), max(areas, key=areas.__getitem__)):
        sample, look = inventory.samples[index], looks[index]
        items.append(Item((sample.name,), f"{look.width} x {look.height}", (index,)))
    name = f"mixed sizes ({num_sizes:,}; the smallest and the largest image)"
    advice = "training brings them to one size; data.resize says how"
    return [Finding(name, "notice", advice, tuple(items))]
