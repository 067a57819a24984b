"""How many images each class has in each split."""

from collections import Counter
from collections.abc import Mapping

from cnntrain.insight.data_check.findings import Finding, Item
from cnntrain.insight.data_check.samples import UNUSED, Inventory

FEW = 10  # training images of a class
IMBALANCE = 10  # how many times the images of the rarest class the most frequent one has

Counts = Mapping[str, Mapping[str, int]]  # class -> split -> images


def count_classes(inventory: Inventory) -> Counts:
    """For each class, in the order of labels, the images in each split."""
    counts: Counter[tuple[str, str]] = Counter((sample.class_name, sample.split) for sample in inventory.samples)
    classes = dict.fromkeys([*inventory.class_names, *sorted({name for name, _ in counts})])
    splits = [split for split in ("train", "val", "test", UNUSED) if any(split == other for _, other in counts)]
    return {name: {split: counts[name, split] for split in splits} for name in classes}


def balance_findings(inventory: Inventory, counts: Counts) -> list[Finding]:
    """Classes that are missing in a split, that are small, or that differ much in size."""
    counts = {name: counts[name] for name in inventory.class_names}
    findings = []
    missing = tuple(
        Item((name,), f"none in {split}")
        for name, of_class in counts.items()
        for split, number in of_class.items()
        if number == 0 and split != UNUSED
    )
    if missing:
        advice = "add images; without them nothing is learnt or measured of this class"
        findings.append(Finding("missing in a split", "warning", advice, missing, "class"))
    train = {name: of_class.get("train", 0) for name, of_class in counts.items()}
    few = tuple(Item((name,), f"{number} in train") for name, number in train.items() if 0 < number < FEW)
    if few:
        advice = "add images, or start from trained weights (cnntrain init image_folder_transfer)"
        findings.append(Finding(f"classes with few images (below {FEW})", "warning", advice, few, "class"))
    present = {name: number for name, number in train.items() if number}
    if present and max(present.values()) >= IMBALANCE * min(present.values()):
        ends = (max(present, key=lambda name: present[name]), min(present, key=lambda name: present[name]))
        items = tuple(Item((name,), f"{present[name]:,} in train") for name in ends)
        advice = "see recipe.balance, and judge by balanced accuracy rather than by accuracy"
        findings.append(Finding("classes of very different size", "warning", advice, items, "class"))
    return findings
