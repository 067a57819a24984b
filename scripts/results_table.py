"""The records of docs/results.json, and the table in README.md that is made of them."""

# The Python that starts scripts/reproduce may be older than the one that trains.
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

START, END = "<!-- results -->", "<!-- /results -->"

DATA_LABELS = {
    "digits": "digits (scikit-learn)",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
FAMILIES = {
    "lenet": "LeNet-",
    "alexnet": "AlexNet",
    "googlenet": "GoogLeNet",
    "resnet": "ResNet-",
    "sequential": "Layers in YAML",
}
COLUMNS = (
    "data set", "network (parameters)", "epochs", "test accuracy", "minutes", "images/s", "machine", "commit", "date",
)  # fmt: skip


def with_record(records: list[dict[str, Any]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records, sorted, with a new one in the place of an older one of the same measurement."""
    kept = [other for other in records if identity(other) != identity(record)]
    return sorted([*kept, record], key=identity)


def identity(record: dict[str, Any]) -> tuple[str, str, int, str]:
    """What was measured."""
    return record["config"], record["data"], record["epochs"], json.dumps(record["changes"], sort_keys=True)


def to_json(records: list[dict[str, Any]]) -> str:
    """Indented, with short lists on one line."""
    text = json.dumps(records, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r"\n\s*", " ", found[1]) + "]", text) + "\n"


def table(records: list[dict[str, Any]], stated: dict[str, Any]) -> str:
    """The records as Markdown, and a row for each shipped configuration that has none.

    Args:
        records: As docs/results.json keeps them.
        stated: Name -> content of every shipped configuration.
    """
    rows = [(identity(record), measured_row(record, stated.get(record["config"]))) for record in records]
    for name in stated.keys() - {record["config"] for record in records}:
        config = stated[name]
        row = [data_name(config["data"]), network_link(name, network_name(config["model"]), linked=True)]
        row += [str(config["recipe"]["epochs"]), "not measured"]
        rows.append(((name, "", 0, ""), row + [""] * (len(COLUMNS) - len(row))))
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *(row for _, row in sorted(rows))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def measured_row(record: dict[str, Any], stated: dict[str, Any] | None) -> list[str]:
    """The cells of a record; `stated` is its configuration, where that is still shipped."""
    epochs, minutes = str(record["epochs_run"]), record["training_minutes"]
    if stated and record["epochs"] != stated["recipe"]["epochs"]:
        epochs += f" instead of {stated['recipe']['epochs']}"
    elif record["epochs_run"] != record["epochs"]:
        epochs += f" of {record['epochs']}"
    network = network_link(record["config"], record["network"], linked=stated is not None)
    changes = "".join(f", {key}: {json.dumps(value)}" for key, value in record["changes"].items())
    return [
        record["data"],
        f"{network} ({record['parameters']:,}){changes}",
        epochs,
        accuracy_cell(record),
        f"{minutes:.1f}" if minutes >= 1 else f"{minutes:.2f}",
        f"{record['images_per_second']:,}",
        record["machine"],
        record["commit"],
        record["date"],
    ]


def accuracy_cell(record: dict[str, Any]) -> str:
    """`99.05 ± 0.32 % (5 seeds, 98.61 to 99.44)`."""
    found, mean = record["test_accuracies"], f"{100 * record['mean']:.2f}"
    outside = (record["within_band"] or []).count(False)
    remark = f", {outside} outside the expected band" if outside else ""
    if len(found) == 1:
        return f"{mean} % (1 seed{remark})"
    spread, span = f"{100 * record['standard_deviation']:.2f}", f"{100 * min(found):.2f} to {100 * max(found):.2f}"
    return f"{mean} ± {spread} % ({len(found)} seeds, {span}{remark})"


def network_link(name: str, network: str, *, linked: bool) -> str:
    """The network, leading to its configuration."""
    return f"[{network}](configs/{name}.yaml)" if linked else network


def between_markers(text: str, content: str) -> str:
    """The text with what stands between the two markers replaced."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"error: there is no place for the table, the lines {START} and {END}")
    return f"{before}{START}\n\n{content}\n\n{END}{after}"


def data_name(data: dict[str, Any]) -> str:
    """What to call a data set: its own name, or that of its folder."""
    return DATA_LABELS.get(data["source"]) or Path(data["root"]).name


def network_name(model: dict[str, Any]) -> str:
    """`lenet5` -> `LeNet-5`, `alexnet` in its small variant -> `AlexNet small`."""
    family, number = re.fullmatch(r"(\D+)(\d*)", model["name"]).groups()  # type: ignore[union-attr]
    variant = model.get("variant")
    return f"{FAMILIES.get(family, family)}{number}" + (f" {variant}" if variant not in (None, "modern") else "")
