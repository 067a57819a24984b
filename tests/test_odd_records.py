"""Records that another program wrote, with numbers that no training has: a report draws and judges them all the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from pydantic import TypeAdapter, ValidationError
from test_doctor import in_epochs

from cnntrain.errors import CheckpointError
from cnntrain.insight.doctor import examine
from cnntrain.reports.figures import Course, norms_chart
from cnntrain.reports.pages.charts import Line, line_chart
from cnntrain.runs.artifacts.training import SchedulerValues
from cnntrain.runs.run_records import read_records
from cnntrain.tasks.evidence import num_predicted

LARGEST = 1.7e308


def change(run: Path, without: str = "", **values: object) -> None:
    """Other values in results.json, and a key less."""
    results = {**json.loads((run / "results.json").read_text()), **values}
    results.pop(without, None)
    (run / "results.json").write_text(json.dumps(results))


@pytest.mark.parametrize("x_label", ["epoch", "step", "seconds"])
@pytest.mark.parametrize(
    "values", [[1, LARGEST], [LARGEST, LARGEST], [-LARGEST, LARGEST], [0, 1e-320], [1e300, 1e-320]]
)
def test_charts_have_room_for_every_number(values: list[float], x_label: str) -> None:
    assert "<svg" in line_chart({"y": Line([1, 2], values)}, "y", x_label=x_label)
    assert "<svg" in line_chart({"x": Line(values, [1, 2])}, "x", x_label=x_label)


@pytest.mark.parametrize("norm", [1e300, LARGEST, 1e-320])
def test_gradients_of_any_size_are_drawn(norm: float) -> None:
    steps = [{"step": step, "gradient_norm": {"first": value}} for step, value in ((1, 0.5), (2, norm))]
    assert norms_chart(steps, "gradient_norm", "gradient norm")


def test_times_and_losses_of_any_size_have_a_mean() -> None:
    line = {"epoch": 1, "seconds": LARGEST, "val": {"accuracy": 0.5, "loss": LARGEST}}
    course = Course.mean([[line, line], [line, line]])
    assert course.seconds == [np.inf, np.inf]
    assert course.accuracy == [50, 50]


def test_the_doctor_judges_a_loss_that_rose_from_nothing() -> None:
    def course(line: dict[str, Any], index: int) -> dict[str, Any]:
        return {"train": {"loss": 2.0 if index == num_epochs - 1 else 0.0}, "val": {**line["val"], "loss": 2.0}}

    num_epochs = len(in_epochs(lambda line, _: line).epochs)
    observed = replace(in_epochs(course), steps=())  # else it is called a rate too high
    [verdict] = [verdict for verdict in examine(observed) if verdict.kind == "underfitting"]
    assert "fell by 0.0%" in verdict.finding


def test_a_precision_of_nearly_nothing_tells_no_number_of_predictions() -> None:
    assert num_predicted({"recall": 1.0, "support": 5, "precision": 1e-320}) is None
    assert num_predicted({"recall": 1.0, "support": 5, "precision": 0.5}) == 10


def test_a_split_of_more_images_than_there_can_be_is_refused(trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    test = json.loads((run / "results.json").read_text())["test"]
    change(run, test={**test, "num_images": 10**10})
    with pytest.raises(CheckpointError, match=r"results\.json: test\.num_images: must be at most 1000000000"):
        read_records(run)


def test_runs_that_do_not_say_how_they_were_made_are_reported_and_compared(
    trained_run: Path, cli: Cli, tmp_path: Path
) -> None:
    old, new, page = tmp_path / "old", tmp_path / "new", tmp_path / "page.html"
    for run in (old, new):
        shutil.copytree(trained_run, run)
    change(old, without="splits")
    assert cli("report", old, "--robustness", 0, "--out", page).code == 0
    assert cli("report", old, new, "--out", page).code == 0
    assert "On which images runs were tested is not known" in page.read_text()
    change(old, test=None)
    (old / "config.yaml").unlink()
    assert cli("report", old, "--out", page).code == 0


def test_results_that_deny_a_validation_that_the_epochs_had_are_named(trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    change(run, val=None)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:1: val: .*, as in results\.json"):
        read_records(run)


@pytest.mark.parametrize("reduction", [0.0, 1.001, 1e300])
def test_a_training_whose_rate_was_raised_by_what_reduces_it_is_refused(reduction: float) -> None:
    kind = TypeAdapter(SchedulerValues)
    kind.validate_python({"next_step": 1, "reduction": 1.0, "plateau": None})
    with pytest.raises(ValidationError, match="reduction"):
        kind.validate_python({"next_step": 1, "reduction": reduction, "plateau": None})
