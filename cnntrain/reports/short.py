"""The page of a run that was trained on images which others keep for validation or test."""

import time
from pathlib import Path

from cnntrain.insight.doctor import examine
from cnntrain.reports import figures
from cnntrain.reports.pages import render
from cnntrain.runs.files import write_text
from cnntrain.runs.run_records import RunRecords
from cnntrain.runs.titles import folder_title, run_title
from cnntrain.runtime.extras import how_to_install, is_installed
from cnntrain.tasks.evidence import doubtful_classes
from cnntrain.tasks.metrics import confidence_intervals

_KINDS = {"test": "test", "val": "validation"}


def write_short_report(records: RunRecords, path: Path) -> None:
    """Writes what there is to say without the images that are missing: training, what was measured, the configuration.

    Args:
        records: Of a finished run, in which `test` or `val` was not measured.
        path: The page.

    Raises:
        StorageError: The page cannot be written.
    """
    results = records.results
    page = render(
        "short_report.html",
        records=records,
        results=results,
        title=run_title(records.config),
        where=folder_title(records.folder),
        intervals={name: confidence_intervals(results[key]) for key, name in _KINDS.items() if results.get(key)},
        doubts=[doubt for key in _KINDS if results.get(key) and (doubt := doubtful_classes(results[key]))],
        missing=[name for key, name in _KINDS.items() if not results.get(key)],
        measured={name: results[key] for key, name in _KINDS.items() if results.get(key)},
        diagnoses=examine(records.for_doctor),
        charts=figures.curves(records) if records.epochs and is_installed("report") else {},
        advice="" if is_installed("report") else how_to_install("report"),
        made=time.strftime("%Y-%m-%d %H:%M"),
    )
    write_text(path, page)
