"""The page of one run."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from torch import nn

from cnntrain.analysis.stage_maps import first_layer_filters, stage_maps
from cnntrain.data import Reporter
from cnntrain.doctor import examine, read_signals
from cnntrain.errors import DataError
from cnntrain.extras import how_to_install, is_installed
from cnntrain.pages import picture, render
from cnntrain.records.checkpoints import Header, load_network
from cnntrain.records.feature_pictures import feature_grid, filter_grid, vector_bars
from cnntrain.records.files import write_text
from cnntrain.records.pictures import as_picture, confusion_picture
from cnntrain.records.run_folder import BEST
from cnntrain.records.run_records import RunRecords, read_records
from cnntrain.report import figures
from cnntrain.report.examples import MOST, Examples
from cnntrain.report.findings import Findings, Outcome, find
from cnntrain.report.tables import predictions_csv, suspects_csv
from cnntrain.report.verdict import verdict
from cnntrain.runtime.device import exact_float32

_LARGEST_TABLE = 20  # classes of a confusion matrix that is a table; a larger one is a picture
_MOST_CLASS_ROWS = 200


def write_report(
    folder: Path,
    *,
    device: torch.device,
    reporter: Reporter,
    data_root: str | None = None,
    num_robustness: int | None = None,
    out: Path | None = None,
) -> tuple[Path, Findings | None]:
    """Writes `report.html` into a run folder, with `predictions.csv` and `suspected_labels.csv` beside it.

    Args:
        folder: Of a finished run.
        device: Where to compute.
        reporter: Tells the user what takes its time.
        data_root: Where data sets live, if not where they were in training.
        num_robustness: As `findings.find` takes it.
        out: Another file for the page.

    Returns:
        The page, and what it shows of images; None where these are not at hand.

    Raises:
        CheckpointError: The run has not finished, or its weights or records are damaged.
        StorageError: The page cannot be written.
    """
    records = read_records(folder)
    model, header = load_network(folder / BEST, device)
    findings, missing = None, ""
    try:
        findings = find(model, header, data_root=data_root, reporter=reporter, num_robustness=num_robustness)
    except DataError as error:
        missing = str(error)
        reporter.say(f"     note: the report does without images: {error}")
    page = render(
        "report.html",
        records=records,
        results=records.results,
        header=header,
        verdict=verdict(records.results, findings),
        diagnoses=examine(read_signals(folder)),
        findings=findings,
        missing=missing,
        made=time.strftime("%Y-%m-%d %H:%M"),
        charts=_charts(records, findings),
        advice="" if is_installed("report") else how_to_install("report"),
        filters=_filters(model),
        **(_of_images(model, header, findings) if findings else {}),
    )
    path = out or folder / "report.html"
    write_text(path, page)
    if findings:
        write_text(folder / "predictions.csv", predictions_csv(findings.test, header.class_names))
        write_text(folder / "suspected_labels.csv", suspects_csv(findings, header.class_names))
    return path, findings


def report_summary(findings: Findings) -> dict[str, Any]:
    """The figures of a report as plain values, for `--json`."""
    calibration = findings.calibration
    return {
        "accuracy": float(findings.test.right.mean()),
        "intervals": {key: list(interval) for key, interval in findings.intervals.items()},
        "temperature": calibration.temperature,
        "expected_calibration_error": calibration.before.expected_calibration_error,
        "expected_calibration_error_scaled": calibration.after.expected_calibration_error,
        "suspected_labels": {name: len(found) for name, found in findings.suspects.items()},
        "robustness": asdict(findings.robustness) if findings.robustness else None,
        "same_images_as_in_training": findings.val.same_images and findings.test.same_images,
    }


def _charts(records: RunRecords, findings: Findings | None) -> dict[str, Any]:
    """By name; all absent without the extra `report`."""
    charts: dict[str, Any] = dict.fromkeys(("curves", "signals", "calibration", "robustness"))
    if not is_installed("report"):
        return charts
    if records.epochs:
        charts["curves"] = figures.curves(records.epochs, records.results.get("best_epoch"))
    if records.signals:
        charts["signals"] = {
            "Gradient norms of layers": figures.signal_chart(records.signals, "gradient_norm", "gradient norm"),
            "Update-to-weight ratios of layers; about 0.001 is usual": figures.signal_chart(
                records.signals, "update_ratio", "update / weight"
            ),
        }
    if findings:
        before, after = findings.calibration.before, findings.calibration.after
        scaled = figures.reliability_chart(after, f"temperature {findings.calibration.temperature:.3f}")
        charts["calibration"] = [figures.reliability_chart(before, "as trained"), scaled]
        if findings.robustness:
            charts["robustness"] = figures.robustness_charts(findings.robustness)
    return charts


def _of_images(model: nn.Module, header: Header, findings: Findings) -> dict[str, Any]:
    """What the template shows of images."""
    names = header.class_names
    examples = Examples(model, header.preprocessing, names)
    confusion = findings.confusion
    suspects = {
        "validation": examples.draw(findings.val, findings.suspects["val"][:MOST]),
        "test": examples.draw(findings.test, findings.suspects["test"][:MOST]),
    }
    return {
        "summary": findings.summary(names),
        "confusion": confusion if len(names) <= _LARGEST_TABLE else None,
        "confusion_picture": picture(confusion_picture(confusion, names), "Confusion matrix; the darker, the more"),
        "most_rows": _MOST_CLASS_ROWS,
        "pairs": examples.confused_pairs(findings),
        "worst": examples.worst_mistakes(findings.test),
        "uncertain": examples.least_certain(findings.test),
        "suspects": suspects,
        "samples": examples.of_each_class(findings.test),
        "stages": _stages(model, header, findings.test),
    }


def _filters(model: nn.Module) -> Markup | None:
    weights = first_layer_filters(model)
    if weights is None or weights.shape[-1] == 1:
        return None
    return picture(
        filter_grid(weights[:64], columns=16, side=40), f"The {len(weights)} filters of the first layer", "pixels"
    )


def _stages(model: nn.Module, header: Header, test: Outcome) -> list[tuple[str, str, Markup]]:
    """One test image on its way through the network: of each stage name, shape and picture."""
    position = int(test.right.argmax())  # the first that is right
    device = next(model.parameters()).device
    stored, _ = next(test.split.read(torch.tensor([position]), [slice(None)]))
    image = header.preprocessing.network_input(stored.to(device))
    pixels = header.preprocessing.pixels(image)[0].numpy()
    name = header.class_names[test.targets[position]]
    found = [("image", "x".join(map(str, pixels.shape)), picture(as_picture(pixels), f"an image of {name}", "pixels"))]
    with exact_float32():
        for stage, activations in stage_maps(model, image[0]):
            plane = activations.ndim == 3
            drawn = feature_grid(activations, side=56) if plane else vector_bars(activations, width=480)
            shape = (*activations.shape[1:], activations.shape[0]) if plane else activations.shape
            kind = "feature maps" if plane else "values"
            alt = f"{kind} of stage {stage}"
            found.append((stage, "x".join(map(str, shape)), picture(drawn, alt, "pixels")))
    return found
