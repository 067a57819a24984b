"""The page at the end of a run, and several runs beside each other."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, write_photos
from sklearn.metrics import accuracy_score

from cnntrain.insight.labels import suspected_labels
from cnntrain.reports.page import write_report
from cnntrain.runs.console import Console
from cnntrain.runs.run_folder import REPORT_FILES
from cnntrain.trained import load

FEW = ["--epochs", "4", "--quiet"]


@pytest.fixture(scope="module")
def reported(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report."""
    folder = tmp_path_factory.mktemp("reported") / "digits" / "20260101-000000"
    shutil.copytree(trained_run, folder)
    write_report(folder, device=torch.device("cpu"), reporter=Console(quiet=True), num_robustness=40)
    return folder


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def words(text: str) -> str:
    return " ".join(text.split())


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


@pytest.mark.report
def test_every_run_ends_with_its_report(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("train", "digits_lenet", *FEW, "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    folder = (tmp_path / "latest").resolve()
    assert f"report     {tmp_path}" in outcome.out
    accuracy = json.loads((folder / "results.json").read_text())["test"]["accuracy"]
    assert f"{100 * accuracy:.2f} % of 359 test images are right" in words(page_of(folder).text)


@pytest.mark.report
def test_a_run_may_end_without_one(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "digits_lenet", *FEW, "--output", tmp_path, "--set", "run.report=false").code == 0
    assert not (tmp_path / "latest" / "report.html").exists()


@pytest.mark.report
def test_a_report_that_fails_leaves_a_finished_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, text: str) -> None:
        raise CheckpointError("no room")

    from cnntrain.errors import CheckpointError

    monkeypatch.setattr("cnntrain.reports.page.write_text", fail)
    outcome = cli("train", "digits_lenet", "--epochs", "1", "--output", tmp_path)
    assert outcome.code == 0
    assert "the run is finished, but its report is not written: no room; try again: cnntrain report" in outcome.err
    assert (tmp_path / "latest" / "results.json").exists()


@pytest.mark.report
def test_resuming_a_finished_run_writes_the_report_that_is_missing(reported: Path, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "20260101-000000"
    shutil.copytree(reported, folder)
    (folder / "report.html").unlink()
    config = (folder / "config.yaml").read_text().replace("report: false", "report: true")
    (folder / "config.yaml").write_text(config)
    assert cli("train", "--resume", folder).code == 0
    assert (folder / "report.html").exists()


def test_the_page_fetches_nothing_and_says_what_its_pictures_show(reported: Path) -> None:
    page = page_of(reported)
    for attributes in page.all("img"):
        assert str(attributes["src"]).startswith("data:image/")
        assert attributes["alt"]
    assert len(page.all("img")) > 40
    charts = page.all("svg")
    assert len(charts) >= 8
    for attributes in charts:
        assert attributes["role"] == "img"
        assert len(str(attributes["aria-label"])) > 20
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "action", "srcset"):
            assert str(attributes.get(key) or "#").startswith(("#", "data:")), (key, attributes)
    assert not page.all("script")
    assert not re.search(r"url\((?!#)|@import", (reported / "report.html").read_text())


def test_ids_are_unique_but_for_shapes_that_charts_share(reported: Path) -> None:
    ids = [
        str(attributes["id"])
        for tag, attributes in page_of(reported).tags
        if "id" in attributes and tag != "path" and tag != "clippath"
    ]
    assert len(ids) == len(set(ids))


def test_the_page_is_small(reported: Path) -> None:
    assert (reported / "report.html").stat().st_size < 2_000_000


def test_predictions_are_those_of_the_final_test(reported: Path) -> None:
    results = json.loads((reported / "results.json").read_text())
    rows = list(csv.DictReader((reported / "predictions.csv").read_text().splitlines()))
    assert (
        accuracy_score([row["label"] for row in rows], [row["predicted"] for row in rows])
        == results["test"]["accuracy"]
    )
    assert len(rows) == 359
    wrong = sum(row["label"] != row["predicted"] for row in rows)
    assert wrong == 359 - round(359 * results["test"]["accuracy"])


def test_rebuilding_gives_the_same_page(reported: Path, cli: Cli, tmp_path: Path) -> None:
    before = (reported / "report.html").read_text()
    assert cli("report", reported, "--robustness", 40, "--out", tmp_path / "again.html").code == 0
    again = (tmp_path / "again.html").read_text()
    times = r"report of \d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.sub(times, "", again) == re.sub(times, "", before)
    assert (reported / "report.html").read_text() == before


def test_figures_come_as_json(reported: Path, cli: Cli, tmp_path: Path) -> None:
    found = json.loads(cli("report", reported, "--robustness", 20, "--json", "--out", tmp_path / "x.html").out)
    low, high = found["intervals"]["accuracy"]
    assert low <= found["accuracy"] <= high
    assert found["robustness"]["num_images"] == 20
    assert set(found["robustness"]["corrupted"]) == {"noise", "blur", "contrast", "JPEG", "pixelation"}
    assert found["temperature"] > 0


def test_without_matplotlib_the_page_says_what_brings_the_charts(
    reported: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntrain.reports.page.is_installed", lambda extra: False)
    assert cli("report", reported, "--robustness", 0, "--out", tmp_path / "x.html").code == 0
    page = Page((tmp_path / "x.html").read_text())
    assert not page.all("svg")
    assert "pip install 'cnntrain[report]'" in page.text
    assert "Confusion matrix" in page.text


def photos_run(cli: Cli, tmp_path: Path, classes: tuple[str, ...] = ("blue", "green", "red")) -> tuple[Path, Path]:
    """A folder of photos, and a run that was trained on them and has no report."""
    root = write_photos(tmp_path / "photos", {"train": 12}, classes)
    text = "model: lenet5\ndata: {source: image_folder, root: photos, image_size: 16}\nrecipe: {epochs: 1}\n"
    (tmp_path / "my.yaml").write_text(text)
    assert cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, "--output", tmp_path / "runs").code == 0
    return root, (tmp_path / "runs" / "latest").resolve()


def test_without_images_the_records_are_reported(cli: Cli, tmp_path: Path) -> None:
    root, run = photos_run(cli, tmp_path)
    shutil.rmtree(root)
    outcome = cli("report", run)
    assert outcome.code == 0
    assert "the report does without images" in outcome.err
    page = page_of(run)
    assert "What needs the images is left out" in page.text
    assert "Confusion matrix" in page.text
    assert len(page.all("svg")) == 6


@pytest.mark.parametrize("change", ["gone", "one image less", "one image more"])
def test_images_that_are_not_the_runs_leave_its_report_as_it_was(cli: Cli, tmp_path: Path, change: str) -> None:
    root, run = photos_run(cli, tmp_path)
    assert cli("report", run, "--robustness", 4).code == 0
    before = {path: path.read_bytes() for path in (*run.glob("*.html"), *run.glob("*.csv"))}
    assert len(before) == 3
    if change == "gone":
        root.rename(tmp_path / "elsewhere")
    elif change == "one image less":
        (root / "train/red/train 00.png").unlink()
    else:
        shutil.copy(root / "train/red/train 00.png", root / "train/red/train 99.png")
    refused = cli("report", run, "--robustness", 4)
    assert refused.code == 3
    assert "no such folder" in refused.err if change == "gone" else "images of the run" in refused.err
    assert "report.html stays as it is; --out FILE writes a report without images" in refused.err
    assert cli("report", run, "--out", tmp_path / "records.html").code == 0
    assert "What needs the images is left out" in (tmp_path / "records.html").read_text()
    assert {path: path.read_bytes() for path in before} == before


def test_names_of_classes_are_text_and_no_markup(cli: Cli, tmp_path: Path) -> None:
    nasty = ('<b>"x"', "a & b", "ümlaut 猫")
    photos_run(cli, tmp_path, nasty)
    assert cli("report", "--output", tmp_path / "runs").code == 0
    page = page_of(tmp_path / "runs" / "latest")
    for name in nasty:
        assert name in page.text
    assert not [attributes for attributes in page.all("b") if attributes]


def test_flipped_labels_are_suspected_and_no_others() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 400)
    probabilities = rng.dirichlet([0.3] * 5, 400).astype(np.float32) * 0.2
    probabilities[np.arange(400), truth] += 0.8
    flipped = rng.permutation(400)[:20]
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + 1) % 5
    found = suspected_labels(probabilities, labels)
    assert set(found.tolist()) <= set(flipped.tolist())
    assert len(found) >= 10  # of the others the network is less sure than usual
    doubts = probabilities[found].max(1) - probabilities[found, labels[found]]
    assert (np.diff(doubts) <= 0).all()


def test_a_network_that_is_right_suspects_nothing() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 0.9 + 0.03
    assert len(suspected_labels(probabilities, np.array([0, 1, 2, 0]))) == 0


def test_a_class_without_images_is_no_suspicion() -> None:
    probabilities = np.array([[0.2, 0.1, 0.7], [0.6, 0.3, 0.1]], dtype=np.float32)
    assert len(suspected_labels(probabilities, np.array([0, 0]))) == 0


def test_wrong_labels_of_real_digits_are_found_after_a_run(reported: Path) -> None:
    trained = load(reported / "checkpoints/best.safetensors", torch.device("cpu"))
    from cnntrain.data.prepare import prepare_split

    split, _, _ = prepare_split(trained.header.data_options, "test", preprocessing=trained.preprocessing)
    images = torch.from_numpy(split.items())
    with torch.inference_mode():
        probabilities = trained.network(trained.preprocessing.network_input(images)).softmax(1).numpy()
    labels = split.targets.numpy().copy()
    right = np.flatnonzero(probabilities.max(1) > 0.9)[:10]
    labels[right] = (labels[right] + 3) % 10
    found = suspected_labels(probabilities, labels)[:15]
    assert len(set(found.tolist()) & set(right.tolist())) >= 9


def test_runs_are_compared_on_the_same_images(reported: Path, cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other" / "20260102-000000"
    shutil.copytree(reported, other)
    rows = (other / "predictions.csv").read_text().splitlines()
    spoilt = [re.sub(r",(\d),(\d),", lambda m: f",{m[1]},{(int(m[1]) + 1) % 10},", row) for row in rows[1:101]]
    (other / "predictions.csv").write_text("\n".join([rows[0], *spoilt, *rows[101:]]) + "\n")
    results = json.loads((other / "results.json").read_text())
    kept = [row for row in csv.DictReader([rows[0], *spoilt, *rows[101:]]) if row["label"] == row["predicted"]]
    results["test"]["accuracy"] = len(kept) / 359
    (other / "results.json").write_text(json.dumps(results))
    outcome = cli("report", reported, other, "--out", tmp_path / "both.html")
    assert outcome.out == f"wrote {tmp_path / 'both.html'}\n"
    text = words(Page((tmp_path / "both.html").read_text()).text)
    assert re.search(r"other/20260102-000000 against digits/20260101-000000: -2\d\.", text)
    assert "more than these test images leave to chance" in text
    assert "Recall of each class" in text


def test_runs_tested_on_different_images_are_told_so(reported: Path, cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other" / "20260102-000000"
    shutil.copytree(reported, other)
    results = json.loads((other / "results.json").read_text())
    results["splits"]["test"]["sha256"] = "0" * 64
    (other / "results.json").write_text(json.dumps(results))
    found = json.loads(cli("report", reported, other, "--out", tmp_path / "both.html", "--json").out)
    assert len(found) == 2
    assert "The runs were tested on different images" in (tmp_path / "both.html").read_text()


def test_settings_that_differ_are_listed(reported: Path, cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other" / "20260102-000000"
    shutil.copytree(reported, other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 7"))
    cli("report", reported, other, "--out", tmp_path / "both.html")
    text = words(Page((tmp_path / "both.html").read_text()).text)
    assert re.search(r"run\.seed (0 7|7 0)", text)
    assert "have the same accuracy" in text
    assert "recipe.epochs" not in text


def test_runs_of_older_versions_are_reported_with_what_they_have(reported: Path, cli: Cli, tmp_path: Path) -> None:
    old = tmp_path / "old" / "20260101-000000"
    shutil.copytree(reported, old)
    results = json.loads((old / "results.json").read_text())
    for key in (
        "class_counts",
        "chance_loss",
        "verdicts",
        "skipped_images",
        "changes",
        "rollbacks",
        "nonfinite_steps",
        "scaler_skips",
    ):
        results.pop(key)
    (old / "results.json").write_text(json.dumps(results))
    for part in ("test", "val"):
        results[part] = {key: value for key, value in results[part].items() if not key.endswith("_interval")}
        for row in results[part]["per_class"]:
            del row["correct"], row["predicted"]
    (old / "results.json").write_text(json.dumps(results))
    (old / "signals.jsonl").unlink()
    assert cli("report", old, "--robustness", 0).code == 0
    page = page_of(old)
    assert "Images of each class" in page.text
    assert re.search(r"\d+\.\d % \(\d+ of \d+\)", words(page.text))  # counts follow from what there is
    assert any("Learning rate over epochs" in str(chart["aria-label"]) for chart in page.all("svg"))


def test_signals_without_a_norm_leave_no_chart_and_no_crash(reported: Path, cli: Cli, tmp_path: Path) -> None:
    half = tmp_path / "half" / "20260101-000000"
    shutil.copytree(reported, half)
    line = {"step": 1, "epoch": 1, "loss": 2.3, "learning_rate": 0.1, "gradient_norm": {}, "update_ratio": {}}
    (half / "signals.jsonl").write_text(json.dumps(line) + "\n")
    assert cli("report", half, "--robustness", 0).code == 0
    assert "Gradient norms" not in page_of(half).text


def test_training_further_removes_the_report_of_before(reported: Path, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "more" / "20260101-000000"
    shutil.copytree(reported, run)
    assert cli("train", "--resume", run, "--epochs", 4, "--quiet").code == 0
    assert not [path.name for path in run.glob("*") if path.name in REPORT_FILES]


def test_a_name_that_is_no_utf8_is_written_out(cli: Cli, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", {"train": 12})
    for path in sorted((root / "train/red").iterdir()):
        path.rename(path.with_name(path.stem + "-\udce4.png"))
    text = "model: lenet5\ndata: {source: image_folder, root: photos, image_size: 16}\nrecipe: {epochs: 1}\n"
    (tmp_path / "my.yaml").write_text(text)
    assert cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, "--output", tmp_path / "runs").code == 0
    assert cli("report", "--output", tmp_path / "runs", "--robustness", 0).code == 0
    assert "udce4" in (tmp_path / "runs/latest/predictions.csv").read_text()


def test_the_learning_rate_is_drawn_by_step_so_that_its_warm_up_is_seen(reported: Path) -> None:
    steps = [json.loads(line) for line in (reported / "signals.jsonl").read_text().splitlines()]
    rates = [step["learning_rate"] for step in steps]
    charts = [str(chart["aria-label"]) for chart in page_of(reported).all("svg")]
    expected = f"Learning rate over steps, from {rates[0]:.3g}, at most {max(rates):.3g}, to {rates[-1]:.3g}."
    assert expected in charts
    assert max(rates) > 1.5 * rates[0]
