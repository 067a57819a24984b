"""The page of one run."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from markupsafe import Markup
from torch import nn

from cnntrain.data.reporter import Reporter
from cnntrain.errors import DataError
from cnntrain.insight.doctor import examine
from cnntrain.insight.stage_maps import first_layer_filters, stage_maps
from cnntrain.reports import figures
from cnntrain.reports.conclusions import conclusions, guesses
from cnntrain.reports.examples import MOST, Examples
from cnntrain.reports.findings import Findings, Outcome, find
from cnntrain.reports.pages import percent, picture, render
from cnntrain.reports.short import write_short_report
from cnntrain.reports.tables import predictions_csv, suspects_csv
from cnntrain.runs.feature_pictures import feature_grid, filter_grid, vector_bars
from cnntrain.runs.files import write_text
from cnntrain.runs.pictures import as_picture, confusion_picture
from cnntrain.runs.run_records import RunRecords, read_records
from cnntrain.runs.runs import BEST
from cnntrain.runs.titles import folder_title, run_title
from cnntrain.runtime.device import exact_float32
from cnntrain.runtime.extras import how_to_install, is_installed
from cnntrain.tasks.evidence import evidence_of_classes, num_correct, num_predicted
from cnntrain.tasks.intervals import Interval, spoken, widest_spread, wilson_interval
from cnntrain.tasks.metrics import Confusion, confidence_intervals
from cnntrain.trained import Trained, load

_LARGEST_TABLE = 20  # classes of a confusion matrix that is a table; a larger one is a picture
_MOST_CLASS_ROWS = 200
_MOST_FILTERS = 64
FEW_TO_JUDGE = 100  # validation images, below which epochs, temperatures and the doctor's verdicts are uncertain


class Written(NamedTuple):
    """A report.

    Attributes:
        path: The page.
        accuracy: Of the test; None where there was none.
        intervals: By metric, of the test.
        findings: What it shows of images; None where these were not at hand.
    """

    path: Path
    accuracy: float | None
    intervals: Mapping[str, Interval]
    findings: Findings | None


def write_report(
    folder: Path,
    *,
    device: torch.device,
    reporter: Reporter,
    data_root: str | None = None,
    num_robustness: int | None = None,
    out: Path | None = None,
) -> Written:
    """Writes `report.html` into a run folder, with `predictions.csv` and `suspected_labels.csv` beside it.

    Args:
        folder: Of a finished run.
        device: Where to compute.
        reporter: Tells the user what takes its time.
        data_root: Where data sets live, if not where they were in training.
        num_robustness: As `findings.find` takes it.
        out: Another file for the page; then nothing is written into the folder.

    Raises:
        CheckpointError: The weights or records are damaged.
        DataError: The images are not at hand, and the page that there is may show them.
        StorageError: The page cannot be written.
    """
    records, path = read_records(folder), out or folder / "report.html"
    test = records.results.get("test")
    if not (test and records.results.get("val")):
        write_short_report(records, path)
        return Written(path, (test or {}).get("accuracy"), {}, None)
    trained = load(folder / BEST, device)
    try:
        findings, missing = find(trained, data_root=data_root, reporter=reporter, num_robustness=num_robustness), ""
    except DataError as error:
        if out is None and path.exists():
            error.add_note(f"{path} stays as it is; --out FILE writes a report without images, from the records alone")
            raise
        findings, missing = None, str(error)
        reporter.say(f"     note: the report does without images: {'; '.join(error.lines)}")
    page = _page(records, trained, findings, missing)
    if findings and out is None:
        names = trained.task.class_names
        write_text(folder / "predictions.csv", predictions_csv(findings.test, names))
        write_text(folder / "suspected_labels.csv", suspects_csv(findings, names))
    write_text(path, page)  # last: where it is, the others are
    return Written(path, test["accuracy"], confidence_intervals(test), findings)


def _page(records: RunRecords, trained: Trained, findings: Findings | None, missing: str) -> str:
    """The page as HTML.

    Args:
        records: Of the run.
        trained: Its network.
        findings: What was found in its images, where these are at hand.
        missing: Why they are not.
    """
    test = records.results["test"]
    return render(
        "report.html",
        records=records,
        results=records.results,
        header=trained.header,
        intervals=confidence_intervals(test),
        title=run_title(records.config),
        where=folder_title(records.folder),
        guesses=guesses(test),
        conclusions=conclusions(records.results, findings),
        sections=trained.task.sections,
        shares=trained.task.shares,
        **_of_classes(test, Confusion.from_values(test), trained.task.class_names),
        by_chance=widest_spread,
        few=FEW_TO_JUDGE,
        diagnoses=examine(records.for_doctor),
        findings=findings,
        missing=missing,
        made=time.strftime("%Y-%m-%d %H:%M"),
        charts=_charts(records, findings),
        advice="" if is_installed("report") else how_to_install("report"),
        filters=_filters(trained.network),
        **(_of_images(trained, findings) if findings else {}),
    )


def report_summary(written: Written) -> dict[str, Any]:
    """The figures of a report as plain values, for `--json`."""
    figures_of_test: dict[str, Any] = {
        "report": str(written.path),
        "accuracy": written.accuracy,
        "intervals": {key: list(interval) for key, interval in written.intervals.items()},
    }
    findings = written.findings
    if findings is None:
        return figures_of_test
    calibration = findings.calibration
    return figures_of_test | {
        "temperature": calibration.temperature,
        "temperature_interval": list(calibration.temperature_interval),
        "num_test_images": len(findings.test.targets),
        "num_val_images": len(findings.val.targets),
        "expected_calibration_error_by_chance": calibration.by_chance,
        "expected_calibration_error": calibration.before.expected_calibration_error,
        "expected_calibration_error_scaled": calibration.after.expected_calibration_error,
        "suspected_labels": {name: len(positions) for name, positions in findings.suspects.items()},
        "robustness": asdict(findings.robustness) if findings.robustness else None,
    }


def _charts(records: RunRecords, findings: Findings | None) -> dict[str, Any]:
    """By name; all absent without the extra `report`."""
    charts: dict[str, Any] = dict.fromkeys(("curves", "norms", "calibration", "robustness"))
    if not is_installed("report"):
        return charts
    if records.epochs:
        charts["curves"] = figures.curves(records)
    if records.steps:
        kinds = {
            "Gradient norms of layers": ("gradient_norm", "gradient norm"),
            "Update-to-weight ratios of layers; about 0.001 is usual": ("update_ratio", "update / weight"),
        }
        drawn = {text: figures.norms_chart(records.steps, *kind) for text, kind in kinds.items()}
        charts["norms"] = {text: chart for text, chart in drawn.items() if chart}
    if findings:
        before, after = findings.calibration.before, findings.calibration.after
        scaled = figures.reliability_chart(after, f"temperature {findings.calibration.temperature:.3f}")
        fitted = [scaled] if findings.calibration.temperature != 1 else []
        charts["calibration"] = [figures.reliability_chart(before, "as trained"), *fitted]
        if findings.robustness:
            charts["robustness"] = figures.robustness_charts(findings.robustness)
    return charts


def _of_images(trained: Trained, findings: Findings) -> dict[str, Any]:
    """What the template shows of images."""
    examples = Examples(trained)
    suspects = {
        "validation": examples.draw(findings.val, findings.suspects["val"][:MOST]),
        "test": examples.draw(findings.test, findings.suspects["test"][:MOST]),
    }
    return {
        "pairs": examples.confused_pairs(findings),
        "worst": examples.worst_mistakes(findings.test),
        "uncertain": examples.least_certain(findings.test),
        "suspects": suspects,
        "samples": examples.of_each_class(findings.test),
        "stages": _stages(trained, findings.test),
        "map_described": examples.map_described,
    }


class ClassRow(NamedTuple):
    """The figures of a class as texts, each with the images that it is a share of; empty where there are none."""

    name: str
    precision: str
    recall: str
    interval: str
    f1: str
    num_images: int


def _class_row(row: Mapping[str, Any]) -> ClassRow:
    correct, predicted, support = num_correct(row), num_predicted(row), row["support"]
    return ClassRow(
        row["class"],
        f"{percent(row['precision'])} ({correct:,} of {predicted:,})" if predicted else "",
        f"{percent(row['recall'])} ({correct:,} of {support:,})" if support else "",
        spoken(wilson_interval(correct, support)) if support else "",
        percent(row["f1"]) if support else "",
        support,
    )


def _of_classes(test: Mapping[str, Any], confusion: Confusion, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Each class, the weakest first and those without images last, and the confusion matrix as a table or a picture."""
    rows = sorted(test["per_class"], key=lambda row: (not row["support"], row["f1"]))
    drawn = confusion_picture(confusion, class_names)
    return {
        "confusion": confusion.dense() if len(class_names) <= _LARGEST_TABLE else None,
        "confusion_picture": picture(drawn, "Confusion matrix; the darker, the more"),
        "class_rows": [_class_row(row) for row in rows[:_MOST_CLASS_ROWS]],
        "evidence_of_classes": evidence_of_classes(test),
    }


def _filters(model: nn.Module) -> Markup | None:
    weights = first_layer_filters(model)
    if weights is None or weights.shape[-1] == 1:
        return None
    shown = weights[:_MOST_FILTERS]
    return picture(filter_grid(shown, side=40), f"{len(shown)} of {len(weights)} filters of the first layer", "pixels")


def _stages(trained: Trained, test: Outcome) -> list[tuple[str, str, Markup]]:
    """One test image on its way through the network: of each stage name, shape and picture."""
    position = int(test.right.argmax())  # the first that is right
    stored, _ = next(test.split.read(torch.tensor([position]), [slice(None)]))
    image = trained.preprocessing.network_input(stored.to(trained.device))
    pixels = trained.preprocessing.show(image)[0].numpy()
    name = trained.task.class_names[test.targets[position]]
    rows = [("image", "x".join(map(str, pixels.shape)), picture(as_picture(pixels), f"an image of {name}", "pixels"))]
    with exact_float32():
        for stage, activations in stage_maps(trained.network, image[0]):
            plane = activations.ndim == 3
            drawn = feature_grid(activations, side=56) if plane else vector_bars(activations, width=480)
            shape = (*activations.shape[1:], activations.shape[0]) if plane else activations.shape
            kind = "feature maps" if plane else "values"
            alt = f"{kind} of stage {stage}"
            rows.append((stage, "x".join(map(str, shape)), picture(drawn, alt, "pixels")))
    return rows
