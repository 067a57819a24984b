"""Several runs side by side."""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from scipy.stats import binomtest

from cnntrain.analysis.bootstrap import bootstrap_difference, bootstrap_intervals
from cnntrain.errors import CheckpointError
from cnntrain.extras import how_to_install, is_installed
from cnntrain.intervals import Interval
from cnntrain.pages import render
from cnntrain.pages.charts import Line, line_chart
from cnntrain.records.files import write_text
from cnntrain.records.run_records import RunRecords, read_records

# What is another for every run and says nothing of it.
_OWN = ("run.name", "run.output", "run.data_root", "expect")


@dataclass(frozen=True)
class Compared:
    """A run among others.

    Attributes:
        name: Short, and different from those of the others.
        interval: Of its test accuracy.
        link: To its own report, relative to the page; empty where there is none.
    """

    name: str
    records: RunRecords
    interval: Interval
    link: str

    @property
    def folder(self) -> Path:
        """The run's."""
        return self.records.folder

    @property
    def accuracy(self) -> float:
        """Of the test."""
        return float(self.results["test"]["accuracy"])

    @property
    def results(self) -> dict[str, Any]:
        """Of results.json."""
        return self.records.results


@dataclass(frozen=True)
class Difference:
    """How much more accurate the second of two runs is, on the same test images.

    Attributes:
        p_value: Of McNemar's exact test: how likely chance alone parts them so far.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    p_value: float

    @property
    def is_clear(self) -> bool:
        """Whether chance hardly explains it."""
        return self.p_value < 0.05


def compare_runs(folders: Sequence[Path], out: Path) -> list[Compared]:
    """Writes a page that compares finished runs, by their records alone.

    Args:
        folders: Of the runs, at least two.
        out: The page.

    Raises:
        CheckpointError: A run has not finished, or its records are damaged.
        StorageError: The page cannot be written.
    """
    runs = sorted(_named([_compared(folder, out) for folder in folders]), key=lambda run: -run.accuracy)
    hashes = {run.results["splits"]["test"]["sha256"] for run in runs}
    page = render(
        "compare.html",
        runs=runs,
        leaders=[run for run in runs if run.accuracy == runs[0].accuracy],
        same_test=len(hashes) == 1,
        differences=_differences(runs) if len(hashes) == 1 else [],
        settings=_different_settings(runs),
        classes=_classes(runs),
        charts=_charts(runs),
        advice="" if is_installed("report") else how_to_install("report"),
        made=time.strftime("%Y-%m-%d %H:%M"),
    )
    write_text(out, page)
    return runs


def _compared(folder: Path, out: Path) -> Compared:
    records = read_records(folder)
    if not records.results:
        raise CheckpointError(f"{folder} has not finished: there is no results.json to compare")
    if not records.results["test"]:
        raise CheckpointError(
            f"{folder} has no test result to compare: it was trained without test images (data.test_fraction: 0)"
        )
    confusion = np.array(records.results["test"]["confusion"])
    report = folder / "report.html"
    try:
        link = Path(os.path.relpath(report, out.parent)).as_posix() if report.exists() else ""
    except ValueError:  # on another drive of Windows
        link = ""
    return Compared(records.results["name"], records, bootstrap_intervals(confusion)["accuracy"], link)


def _named(runs: Sequence[Compared]) -> list[Compared]:
    """The same; those of one name with their time, and those of one time as well with their whole path."""
    for another in (lambda run: f"{run.name} {run.folder.resolve().name}", lambda run: str(run.folder)):
        names = [run.name for run in runs]
        runs = [replace(run, name=another(run)) if names.count(run.name) > 1 else run for run in runs]
    return list(runs)


def _differences(runs: Sequence[Compared]) -> list[Difference]:
    """Of each pair whose predictions were kept."""
    right = {run.name: found for run in runs if (found := _right(run)) is not None}
    differences = []
    for (first, before), (second, after) in combinations(right.items(), 2):
        if len(before) == len(after):
            only_one = int((before & ~after).sum()), int((after & ~before).sum())
            p_value = binomtest(only_one[0], sum(only_one)).pvalue if sum(only_one) else 1.0
            interval = bootstrap_difference(before, after)
            difference = float(after.mean() - before.mean())
            differences.append(Difference(first, second, difference, interval, float(p_value)))
    return differences


def _right(run: Compared) -> npt.NDArray[np.bool_] | None:
    """Whether each test image was right; None where the run kept no predictions, or those of other weights."""
    try:
        with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            found = np.array([row["label"] == row["predicted"] for row in csv.DictReader(file)])
    except (OSError, KeyError, ValueError):
        return None
    support = run.results["test"]["num_images"]
    return found if len(found) == support and found.sum() == round(run.accuracy * support) else None


def _different_settings(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """The keys in which the configurations differ, with the value of each run."""
    flat = [_flatten(run.records.config) for run in runs]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if not key.startswith(_OWN)]
    values = {key: [_as_yaml(one[key]) if key in one else "" for one in flat] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _classes(runs: Sequence[Compared]) -> list[tuple[str, list[float]]]:
    """The recall of each class in each run, where all know the same classes."""
    rows = [run.results["test"]["per_class"] for run in runs]
    names = [[row["class"] for row in one] for one in rows]
    if any(one != names[0] for one in names):
        return []
    return [(name, [one[index]["recall"] for one in rows]) for index, name in enumerate(names[0])]


def _charts(runs: Sequence[Compared]) -> dict[str, Any]:
    if not is_installed("report"):
        return {}

    def lines(key: str, factor: float, over_time: bool) -> dict[str, Line]:
        found = {}
        for run in runs:
            epochs = run.records.epochs
            seconds = np.cumsum([line["seconds"] for line in epochs]).tolist()
            x = seconds if over_time else [line["epoch"] for line in epochs]
            found[run.name] = Line(x, [factor * line["val"].get(key, np.nan) for line in epochs])
        return found

    last = [(run.name, run.records.epochs[-1]["val"].get("accuracy", np.nan)) for run in runs if run.records.epochs]
    ends = "At the end: " + ", ".join(f"{name} {accuracy:.2%}" for name, accuracy in last)
    chart = partial(line_chart, y_label="validation accuracy, %")
    return {
        "Validation accuracy over epochs": chart(lines("accuracy", 100, False), ends, x_label="epoch"),
        "Validation accuracy over time": chart(lines("accuracy", 100, True), ends, x_label="seconds of training steps"),
        "Validation loss over epochs": line_chart(
            lines("loss", 1, False), "Validation loss over epochs.", x_label="epoch", y_label="validation loss"
        ),
    }
