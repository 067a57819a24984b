"""Several runs side by side: of one configuration, of several, with one seed of each or more."""

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cnntrain.errors import CheckpointError
from cnntrain.reports.figures import Course, comparison_charts
from cnntrain.reports.groups import FEWEST_SEEDS, Spread, differences, experiment
from cnntrain.reports.pages import render
from cnntrain.reports.pairs import Difference, kept_predictions, mcnemar
from cnntrain.runs.files import write_text
from cnntrain.runs.run_records import RunRecords, read_records
from cnntrain.runs.titles import as_yaml, flatten, folder_title, labels, run_title, settings_of
from cnntrain.runtime.extras import how_to_install, is_installed
from cnntrain.tasks.intervals import Interval, wilson_interval
from cnntrain.tasks.metrics import confidence_intervals

# What is another for every run and says nothing of it.
_OWN = ("run.name", "run.output", "run.data_root", "run.report", "run.tensorboard", "run.log_every_steps", "expect")


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
    def where(self) -> str:
        """The run folder, for people."""
        return folder_title(self.folder)

    @property
    def accuracy(self) -> float:
        """Of the test."""
        return float(self.results["test"]["accuracy"])

    @property
    def test_sha256(self) -> str | None:
        """Of the test images; older versions did not write it."""
        sha256: str | None = self.results.get("splits", {}).get("test", {}).get("sha256")
        return sha256

    @property
    def results(self) -> dict[str, Any]:
        """Of results.json."""
        return self.records.results


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: What sets their configuration apart; different from those of the others.
        runs: By seed.
    """

    name: str
    runs: list[Compared]

    @cached_property
    def by_seed(self) -> dict[Any, Compared]:
        """The first run of each seed: doing the same again shows no spread."""
        first: dict[Any, Compared] = {}
        for run in self.runs:
            first.setdefault(run.results.get("seed"), run)
        return first

    @cached_property
    def spread(self) -> Spread:
        """Of the test accuracies over seeds."""
        return Spread(tuple(run.accuracy for run in self.by_seed.values()))

    @property
    def by_images(self) -> Interval:
        """How far other test images could move the mean: Wilson's interval of a single run of that accuracy."""
        num_images = self.runs[0].results["test"]["num_images"]
        return wilson_interval(round(self.spread.mean * num_images), num_images)


def compare_runs(folders: Sequence[Path], out: Path) -> list[Group]:
    """Writes a page that compares finished runs, by their records alone.

    Args:
        folders: Of the runs, at least two.
        out: The page.

    Returns:
        The runs by configuration, the most accurate first.

    Raises:
        CheckpointError: A run has not finished, or its records are damaged.
        StorageError: The page cannot be written.
    """
    groups = _grouped([_compared(folder, out) for folder in folders])
    runs = sorted((run for group in groups for run in group.runs), key=lambda run: -run.accuracy)
    unknown_test, hashes = [run.name for run in runs if not run.test_sha256], {run.test_sha256 for run in runs}
    seeded, same_test = any(len(group.by_seed) > 1 for group in groups), len(hashes) == 1 and not unknown_test
    of_groups = differences(groups[0].spread, [group.spread for group in groups[1:]])
    page = render(
        "compare.html",
        title=_title(groups),
        runs=runs,
        groups=groups if seeded else [],
        leaders=[run for run in runs if run.accuracy == runs[0].accuracy],
        same_test=same_test,
        unknown_test=unknown_test,
        differences=_pairs(runs) if same_test and not seeded else [],
        group_differences=list(zip(groups[1:], of_groups, strict=True)) if same_test and seeded else [],
        fewest_seeds=FEWEST_SEEDS,
        settings=_different_settings(groups, runs, seeded),
        classes=_classes(runs),
        charts=comparison_charts(_courses(groups, seeded)) if is_installed("report") else {},
        advice="" if is_installed("report") else how_to_install("report"),
        made=time.strftime("%Y-%m-%d %H:%M"),
    )
    write_text(out, page)
    return groups


def comparison_summary(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The figures of a comparison as plain values, for `--json`: an entry for each run, the most accurate first."""
    entries = []
    for group in groups:
        spread = group.spread
        whole = {
            "name": group.name,
            "num_seeds": len(spread.accuracies),
            "mean": spread.mean,
            "standard_deviation": spread.deviation,
            "min": min(spread.accuracies),
            "max": max(spread.accuracies),
            "interval": list(spread.interval) if spread.interval else None,
        }
        entries += [
            {
                "run": str(run.folder),
                "name": run.name,
                "accuracy": run.accuracy,
                "interval": list(run.interval),
                "seed": run.results.get("seed"),
                "configuration": whole,
            }
            for run in group.runs
        ]
    return sorted(entries, key=lambda entry: -entry["accuracy"])


def _compared(folder: Path, out: Path) -> Compared:
    records = read_records(folder)
    if not records.results:
        raise CheckpointError(f"{folder} has not finished: there is no results.json to compare")
    if not records.results["test"]:
        raise CheckpointError(
            f"{folder} has no test result to compare: it was trained without test images (data.test_fraction: 0)"
        )
    report = folder / "report.html"
    try:
        link = Path(os.path.relpath(report, out.parent)).as_posix() if report.exists() else ""
    except ValueError:  # on another drive of Windows
        link = ""
    return Compared("", records, confidence_intervals(records.results["test"])["accuracy"], link)


def _grouped(runs: Sequence[Compared]) -> list[Group]:
    """The runs by configuration, the most accurate first, all with names."""
    by_experiment: dict[Hashable, list[Compared]] = {}
    for run in runs:
        by_experiment.setdefault(experiment(run.records), []).append(run)
    members = [sorted(group, key=lambda run: run.results.get("seed", 0)) for group in by_experiment.values()]
    members.sort(key=lambda group: -float(np.mean([run.accuracy for run in group])))
    names = labels([group[0].records.config for group in members])
    names = [name or run_title(group[0].records.config) for name, group in zip(names, members, strict=True)]
    titles = [
        name if names.count(name) == 1 else f"{name}, {group[0].where}"
        for name, group in zip(names, members, strict=True)
    ]
    return [
        Group(title, _with_names(title, group, len(members) > 1)) for title, group in zip(titles, members, strict=True)
    ]


def _with_names(title: str, runs: Sequence[Compared], among_others: bool) -> list[Compared]:
    """The runs of a group, named by what sets them apart: configuration, seed, and folder where these are equal."""
    seeds = [run.results.get("seed") for run in runs]
    names = []
    for run, seed in zip(runs, seeds, strict=True):
        parts = [title] if among_others else []
        if len(runs) > 1:
            parts.append(f"seed {seed}" if seeds.count(seed) == 1 else run.where)
        names.append(", ".join(parts))
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _title(groups: Sequence[Group]) -> str:
    """What is compared: `LeNet-5 on MNIST, 5 seeds`."""
    num_runs, num_seeds = sum(len(group.runs) for group in groups), len(groups[0].by_seed)
    titles = list(dict.fromkeys(run_title(group.runs[0].records.config) for group in groups))
    what = titles[0] if len(titles) == 1 else " and ".join(titles) if len(titles) == 2 else f"{len(titles)} experiments"
    if len(groups) == 1:
        return f"{what}, {num_seeds} seeds" if num_seeds > 1 else f"{what}, {num_runs} runs"
    return f"{what}, {len(groups)} configurations, {num_runs} runs"


def _pairs(runs: Sequence[Compared]) -> list[Difference]:
    """Of each pair of runs whose predictions were kept."""
    right = {run.name: kept for run in runs if (kept := kept_predictions(run.records)) is not None}
    pairs = combinations(right.items(), 2)
    return [mcnemar(*first, *second) for first, second in pairs if len(first[1]) == len(second[1])]


def _different_settings(groups: Sequence[Group], runs: Sequence[Compared], seeded: bool) -> dict[str, Any]:
    """The names of the columns, and the keys in which configurations differ, with the value of each.

    Of runs with several seeds there is a column for each configuration, without what differs among its runs.
    """
    if seeded:
        names, flat = [group.name for group in groups], [settings_of(group.runs[0].records.config) for group in groups]
    else:
        names, flat = [run.name for run in runs], [flatten(run.records.config) for run in runs]
    keys = [key for key in dict.fromkeys(key for settings in flat for key in settings) if not key.startswith(_OWN)]
    values = {key: [as_yaml(settings[key]) if key in settings else "" for settings in flat] for key in keys}
    return {"names": names, "rows": {key: row for key, row in values.items() if len(set(row)) > 1}}


def _classes(runs: Sequence[Compared]) -> list[tuple[str, int, list[float]]]:
    """The images and the recall of each class in each run, where all know the same classes and images."""
    rows = [run.results["test"]["per_class"] for run in runs]
    known = [[(row["class"], row["support"]) for row in classes] for classes in rows]
    if any(classes != known[0] for classes in known):
        return []
    return [(*row, [classes[index]["recall"] for classes in rows]) for index, row in enumerate(known[0])]


def _courses(groups: Sequence[Group], seeded: bool) -> Mapping[str, Course]:
    """Curves by name: of each run, or the mean over the seeds of each of several configurations."""
    if seeded and len(groups) > 1:
        return {group.name: Course.mean([run.records.epochs for run in group.by_seed.values()]) for group in groups}
    return {run.name: Course.mean([run.records.epochs]) for group in groups for run in group.runs}
