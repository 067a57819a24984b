"""No name from outside, of whatever kind, acts on a terminal, begins a line of its own or drowns what is said."""

import csv
import io
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
import yaml
from conftest import Cli, Outcome
from PIL import Image, ImageFont

from cnntrain.cli.output import harmless_output
from cnntrain.config.loading import load_config
from cnntrain.config.reader import write_yaml
from cnntrain.models.weights_file import METADATA_KEY
from cnntrain.reports.pages.charts import Line, line_chart
from cnntrain.runs.files import to_json
from cnntrain.runs.pictures import confusion_picture, shorten
from cnntrain.runtime.names import shortened
from cnntrain.runtime.sealing import DIGEST_KEY, UNSEALED, seal
from cnntrain.tasks.metrics import Confusion

WILD = (
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m",  # a window's title, a colour
    "two\nFORGED: line\r\nFORGED again",
    "gone\rFORGED over\x08\x7f",
    "\u202egnp.exe\u2066",
    "\u2028FORGED\u2029FORGED",
    "\x9b31mC1\x85FORGED",
    os.fsdecode(b"caf\xe9\xff"),  # no UTF-8
    "=cmd|' /C calc'!A0",
    "{{ 7 * 7 }}</script><script>alert(1)</script>",
)
LONG = "w" * 4000 + "end"
ON_DISK = [name.replace("/", "_") for name in WILD]


def check_harmless(outcome: Outcome) -> None:
    for text in (outcome.out, outcome.err):
        for line in text.split("\n"):
            assert line.isprintable(), ascii(line)
            assert not line.startswith("FORGED"), ascii(line)
            assert len(line) < 20_000, f"{len(line)} letters: {line[:100]}"
    assert "Traceback" not in outcome.err
    assert "a bug of cnntrain" not in outcome.err


@pytest.fixture(scope="module")
def wild_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run whose checkpoint, configuration and results name ten wild classes, in a wild folder."""
    names = [*WILD, LONG]
    folder = tmp_path_factory.mktemp("wild") / ON_DISK[0] / ON_DISK[1]
    shutil.copytree(trained_run, folder)
    best = folder / "checkpoints/best.safetensors"
    with safetensors.safe_open(best, "pt") as file:
        metadata = file.metadata()
    header = json.loads(metadata[METADATA_KEY]) | {"class_names": names}
    header["config"]["run"]["data_root"] = WILD[2]
    weights = safetensors.torch.load_file(best)
    metadata = {METADATA_KEY: json.dumps(header), DIGEST_KEY: UNSEALED}
    best.write_bytes(seal(safetensors.torch.save(weights, metadata=metadata)))
    results = json.loads((folder / "results.json").read_text())
    for part in ("val", "test"):
        for row, name in zip(results[part]["per_class"], names, strict=True):
            row["class"] = name
    results["class_counts"] = dict(zip(names, results["class_counts"].values(), strict=True))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module")
def wild_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/<wild class>/<wild name>.png, six of each, and one that cannot be read."""
    root = tmp_path_factory.mktemp("images") / ON_DISK[3]
    rng = np.random.default_rng(0)
    for index, name in enumerate(name for name in ON_DISK if name != os.fsdecode(b"caf\xe9\xff")):
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 40, (16, 16, 3), dtype=np.uint8) + 24 * index
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}{ON_DISK[number]}.png")
    (root / "train" / ON_DISK[0] / f"bad{ON_DISK[1]}.png").write_text("x")
    return root


def test_commands_that_use_a_network_show_its_classes(
    cli: Cli, wild_run: Path, wild_images: Path, tmp_path: Path
) -> None:
    images = wild_images / "train" / ON_DISK[1] / f"1{ON_DISK[1]}.png"
    out = tmp_path / ON_DISK[1]
    for arguments in (
        ["predict", images, tmp_path / f"gone{WILD[1]}.png", "--run", wild_run],
        ["predict", f"{tmp_path}/{WILD[1]}*", "--run", wild_run],
        ["evaluate", wild_run],
        ["evaluate", wild_run, "--data-root", tmp_path / WILD[1]],
        ["explain", images, "--run", wild_run, "--out", out, "--class", WILD[1]],
        ["explain", images, "--run", wild_run, "--class", f"no{WILD[1]}"],
        ["explain", images, "--run", wild_run, "--out", out, "--layers"],
        ["filter", images, "--kernel", "blur", "--out", out],
        ["filter", images, "--kernel", WILD[1]],
        ["export", wild_run, "--format", "safetensors", "--out", f"{out}.safetensors"],
        ["export", wild_run, "--format", "safetensors", "--images", images],
        ["report", wild_run, "--out", f"{tmp_path}/{ON_DISK[1]}.html"],
        ["report", wild_run, "--out", f"{tmp_path}/{ON_DISK[1]}.txt"],
        ["train", "--resume", wild_run],
        ["train", "--resume", wild_run, "--set", f"recipe.{WILD[1]}={WILD[1]}"],
        ["serve", wild_run, "--host", f"no{WILD[1]}"],
    ):
        check_harmless(cli(*arguments))


def test_json_of_predictions_holds_the_true_names(cli: Cli, wild_run: Path, wild_images: Path) -> None:
    outcome = cli("predict", wild_images / "train" / ON_DISK[1], "--run", wild_run, "--top", 10, "--json")
    check_harmless(outcome)
    found = json.loads(outcome.out)
    assert {ranked["class"] for ranked in found[0]["predictions"]} == {*WILD, LONG}
    assert found[0]["image"] == str(wild_images / "train" / ON_DISK[1] / f"0{ON_DISK[0]}.png")


def test_training_on_wild_folders_and_all_that_looks_at_them(cli: Cli, wild_images: Path, tmp_path: Path) -> None:
    config = tmp_path / f"my{ON_DISK[1]}.yaml"
    config.write_text(
        f"model: lenet5\ndata: {{source: image_folder, root: {json.dumps(str(wild_images))}, image_size: 16, "
        "on_error: skip, max_skipped: 0.2, val_fraction: 0.2, test_fraction: 0.2}\n"
        "recipe: {epochs: 1, batch_size: 8}\nrun: {name: wild, report: false}\n"
    )
    where = ["--output", tmp_path / f"runs{ON_DISK[1]}"]
    for arguments in (
        ["check", config],
        ["data", "check", config, "--page", tmp_path / f"{ON_DISK[1]}.html"],
        ["data", "check", wild_images],
        ["data", "preview", config, "--out", tmp_path / f"{ON_DISK[1]}.png"],
        ["summary", config],
        ["train", config, *where],
        ["evaluate", *where],
        ["report", *where, "--robustness", 0],
        ["train", config, "--resume", *where],
        ["train", config, *where, "--set", "data.on_error=stop"],
    ):
        outcome = cli(*arguments)
        check_harmless(outcome)
        refused = "data.on_error=stop" in arguments or arguments == ["data", "check", wild_images]
        assert outcome.code == (3 if refused else 0), outcome.err
    checked = cli("data", "check", config, "--json")
    check_harmless(checked)
    json.loads(checked.out)
    [run] = (tmp_path / f"runs{ON_DISK[1]}" / "wild").iterdir()
    for path in (*run.glob("*.html"), *run.glob("*.json"), *run.glob("*.csv"), *run.glob("*.txt"), run / "config.yaml"):
        text = path.read_text()
        assert text.replace("\n", "").replace("\u00a0", "").isprintable(), path
        assert path.suffix != ".html" or "<script>alert(1)" not in text
    with (run / "predictions.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any("cmd|" in cell for cell in cells)
    assert not any(cell.startswith("=") for cell in cells)


@pytest.mark.parametrize("text", [*WILD, LONG], ids=ascii)
def test_whatever_is_said_on_the_command_line_is_quoted_harmlessly(cli: Cli, text: str, tmp_path: Path) -> None:
    if "\udcff" in text:
        text = text.replace("\udcff", "")
    (tmp_path / "my.yaml").write_text(
        f"model: lenet5\ndata: {{source: digits, {json.dumps(text)}: {json.dumps(text)}}}\n"
    )
    (tmp_path / "bad.yaml").write_bytes(b"model: " + text.encode(errors="surrogateescape") + b"\n : [\n")
    for arguments in (
        [text],
        [f"--{text}"],
        ["train", f"--{text}"],
        ["train", f"--epochs={text}", "digits_lenet"],
        ["train", "digits_lenet", "a", text, text],
        ["train", "-" + text],
        ["data", text],
        ["configs", text],
        ["train", text],
        ["train", tmp_path / "my.yaml"],
        ["train", tmp_path / "bad.yaml"],
        ["train", "digits_lenet", "--set", text],
        ["train", "digits_lenet", "--set", f"{text}=1"],
        ["train", "digits_lenet", "--set", f"recipe.{text}.x=1"],
        ["train", "digits_lenet", "--set", f"recipe.loss={text}"],
        ["train", "digits_lenet", "--set", f"data.root={json.dumps(text)}"],
        ["train", "digits_lenet", "--set", f"model.weights={json.dumps(text)}"],
        ["train", "digits_lenet", "--name", text],
        ["train", "digits_lenet", "--device", text],
        ["train", "digits_lenet", "--output", tmp_path / "my.yaml" / text],
        ["train", "--resume", text],
        ["reproduce", text],
        ["init", text],
        ["init", "digits_lenet", tmp_path / text / "x"],
        ["evaluate", text],
        ["evaluate", "--split", text],
        ["evaluate", "--output", text],
        ["predict", text],
        ["explain", "x.png", "--method", text],
        ["export", "--format", text],
        ["filter", text, "--kernel", "blur"],
        ["filter", "x", "--kernel", "blur", "--padding", text],
        ["lr-find", "digits_lenet", "--out", text],
        ["data", "check", text],
        ["data", "preview", text],
        ["report", text],
        ["serve", text],
        ["bench", text],
        ["summary", text],
        ["check", text],
    ):
        outcome = cli(*arguments)
        check_harmless(outcome)
        assert outcome.code in (2, 3, 4, 5, 7), (arguments, outcome)


def test_a_line_of_an_error_stays_one_line(cli: Cli) -> None:
    assert (
        cli("evaluate", "no\nFORGED").err
        == "error: no\\nFORGED: no such run folder or checkpoint file, nor is it in runs; `cnntrain runs` lists those "
        "there are\n"
    )


def test_the_traceback_of_debug_acts_on_nothing(cli: Cli) -> None:
    outcome = cli("--debug", "evaluate", "no\x1b[31m")
    assert "Traceback" in outcome.err
    assert "\x1b" not in outcome.err


def test_weights_whose_layers_have_wild_names_are_refused_harmlessly(cli: Cli, tmp_path: Path) -> None:
    safetensors.torch.save_file({name: torch.zeros(1) for name in WILD if name.isascii()}, tmp_path / "x.safetensors")
    torch.save({name: torch.zeros(1) for name in (*WILD[:6], LONG)}, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pt"):
        for arguments in (
            ["train", "digits_lenet", "--set", f"model.weights={tmp_path / name}"],
            ["evaluate", tmp_path / name],
        ):
            outcome = cli(*arguments)
            check_harmless(outcome)
            assert outcome.code == 4


def test_records_that_hold_wild_texts_are_reported_harmlessly(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    def changed(path: str, change: Any) -> Path:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(trained_run, tmp_path / "run")
        file = tmp_path / "run" / path
        file.write_text(change(file.read_text()))
        return tmp_path / "run"

    for name in WILD[:6]:
        quoted = json.dumps(name)
        for folder in (
            changed("results.json", lambda text, q=quoted: text.replace('"name"', f'{q}: 1, "name"')),
            changed("results.json", lambda text, q=quoted: q),
            changed("config.yaml", lambda text, q=quoted: f"{q}: [\n"),
            changed("metrics.jsonl", lambda text, q=quoted: f"{{{q}\n"),
        ):
            check_harmless(cli("report", folder, "--out", tmp_path / "x.html", "--robustness", 0))
            check_harmless(cli("train", "--resume", folder))


def test_json_that_is_printed_acts_on_nothing_and_is_what_it_was() -> None:
    values = {name: [name, [1, 2], "[1,   2]"] for name in (*WILD, "\U000e0001", "K\u00e4fer \u732b")}
    text = to_json(values)
    assert json.loads(text) == values
    assert all(map(str.isprintable, text.split("\n")))
    assert "K\u00e4fer \u732b" in text
    assert "\n    [1, 2],\n" in text


@pytest.mark.parametrize("name", WILD, ids=ascii)
def test_a_configuration_is_written_so_that_it_acts_on_nothing_and_reads_back(name: str) -> None:
    text = write_yaml({"key": name, "other": 1e-4})
    assert all(map(str.isprintable, text.split("\n")))
    assert yaml.safe_load(text)["key"] == name


def test_what_others_print_acts_on_nothing_but_bars_are_redrawn_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, bar in ((Terminal(), "\r"), (io.StringIO(), "\\r")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stderr", stream)
            with harmless_output():
                print("a\x1b[31m\nb\r", file=sys.stderr)
                sys.stderr.write("\r 10 %")
            assert stream.getvalue() == "a\\x1b[31m\nb\\r\n" + bar + " 10 %"


def test_long_names_keep_their_ends() -> None:
    assert shortened(LONG) == "w" * 50 + "\u2026" + "w" * 46 + "end"
    assert shortened("w" * 100) == "w" * 100


def test_long_names_are_drawn_at_once() -> None:
    font, began = ImageFont.load_default(size=12), time.perf_counter()
    text = shorten("w" * 200_000 + "end", 150, font)
    assert time.perf_counter() - began < 1
    assert text.startswith("www")
    assert text.endswith("wend")
    assert font.getlength(text) <= 150
    confusion_picture(Confusion.of_matrix(np.eye(10, dtype=np.int64)), [*WILD, LONG])


def test_a_configuration_copied_under_a_wild_name_says_the_same(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "x\nmodel: resnet18\n.yaml"
    assert cli("init", "digits_lenet", target).code == 0
    assert load_config(str(target)).config.model == load_config("digits_lenet").config.model


def test_the_log_of_a_bug_acts_on_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(WILD[0] + WILD[6])

    monkeypatch.setattr("cnntrain.config.loading.load_config", fail)
    outcome = cli("check", WILD[0] + WILD[6])
    assert outcome.code == 1
    for text in (outcome.err, Path(outcome.err.partition("its traceback is in ")[2].partition(";")[0]).read_text()):
        assert all(map(str.isprintable, text.split("\n")))
        assert "owned" in text


def test_names_in_charts_are_no_formulas() -> None:
    pytest.importorskip("matplotlib")
    chart = line_chart({"$x^$": Line([0, 1], [0, 1]), "b\x9b\u202e": Line([0, 1], [1, 0])}, "two\x1b lines")
    assert "$x^$" in chart
    assert all(map(str.isprintable, chart.split("\n")))


@pytest.mark.parametrize("most", [0.6, 50.0, 3e7])
def test_labels_of_logarithmic_axes_are_numbers_and_no_formulas(most: float) -> None:
    chart = line_chart({"a": Line([0.03, most], [0.02, most])}, "a line", log_x=True, log_y=True)
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
    assert len(labels) > 3
    assert all(float(label) > 0 for label in labels), labels
