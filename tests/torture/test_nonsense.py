"""Files of ours that another program has written: sealed, and yet nonsense somewhere. Each is refused by name, or used."""

import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_REPORT, Cli
from harness import FULL, amount, report
from mutations import MISSING, changed, mutations, places, valid_json
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

from cnntrain.errors import CheckpointError
from cnntrain.runs.checkpoints import newest_training
from cnntrain.runs.run_records import read_records
from cnntrain.runtime.sealing import DIGEST_KEY, UNSEALED, seal

COMMANDS = ("predict", "evaluate", "explain", "export", "check") if FULL else ("predict",)

# A header may make sense and yet not be of the data that there are, which `evaluate` says (exit code 3).
UNLIKE_ITS_DATA = ("the network of this checkpoint knows", "there are no test images: the network was trained with")


def sample(cases: list[Any], short: int) -> list[Any]:
    """Some of them in the gate, all of them in `scripts/torture`."""
    return cases if FULL else random.Random(3).sample(cases, short)


@contextmanager
def case(faults: list[str], *what: object) -> Iterator[None]:
    """Makes an error within it a line of `faults`, so that the cases after this one are tried too."""
    try:
        yield
    except Exception as error:
        faults.append(f"{', '.join(map(str, what))}: {type(error).__name__}: {error}")


def check(faults: list[str]) -> None:
    """Fails with all of them."""
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["cnntrain"])
    return header


def test_a_header_with_nonsense_anywhere_is_refused_by_name_or_makes_sense(
    cli: Cli, tmp_path: Path, trained_run: Path
) -> None:
    best = trained_run / "checkpoints" / "best.safetensors"
    tensors, header = load_file(best), header_of(best)
    foreign, image = tmp_path / "foreign.safetensors", tmp_path / "x.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(image)
    arguments: dict[str, list[object]] = {
        "predict": ["predict", image, "--run", foreign, "--json"],
        "evaluate": ["evaluate", foreign, "--json"],
        "explain": ["explain", image, "--run", foreign, "--json", "--out", tmp_path / "out"],
        "export": [
            "export",
            foreign,
            "--format",
            "safetensors",
            "--images",
            image,
            "--out",
            tmp_path / "x.safetensors",
            "--overwrite",
        ],
        "check": ["check", "digits_lenet", "--set", f"model.weights={foreign}"],
    }
    cases, refused, faults = sample(list(mutations(header)), 100), 0, list[str]()
    for what, build in cases:
        foreign.write_bytes(seal(save(tensors, {"cnntrain": json.dumps(build()), DIGEST_KEY: UNSEALED})))
        for command in COMMANDS:
            with case(faults, what, command):
                outcome = cli(*arguments[command])
                unlike_its_data = command == "evaluate" and any(text in outcome.err for text in UNLIKE_ITS_DATA)
                assert outcome.code in (0, 4) or (outcome.code == 3 and unlike_its_data), outcome.err
                if outcome.code == 0 and "--json" in arguments[command]:
                    valid_json(outcome.out)
                if outcome.code == 4:
                    assert "foreign.safetensors: " in outcome.err
                    refused += 1
    check(faults)
    assert refused > len(cases) // 2
    report("sealed headers with nonsense", f"{len(cases)} x {len(COMMANDS)} commands: {refused} refused by name")


def odd_tensors() -> Iterator[torch.Tensor]:
    yield torch.zeros(1)
    yield torch.tensor(float("nan"))
    yield torch.zeros(3, 3, dtype=torch.float64)
    yield torch.zeros(1).expand(10**9)
    yield torch.zeros(1, device="meta")
    yield torch.zeros(2, 2).to_sparse()
    yield torch.zeros(2, dtype=torch.complex64)


def training_mutations(state: dict[str, Any]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for what, build in mutations({key: value for key, value in state.items() if key != "header"}, most=2):
        yield what, lambda build=build: {"header": state["header"], **build()}  # type: ignore[misc]
    for keys in places(state, most=2):
        for odd in odd_tensors():
            kind = f"{keys} -> {odd.dtype} {tuple(odd.shape)} on {odd.device}"
            yield kind, partial(changed, state, keys, odd)
    yield "header missing", partial(changed, state, ("header",), MISSING)
    header = json.loads(state["header"])
    for what, build in mutations({key: header[key] for key in ("epoch", "step", "splits")}):
        yield f"header {what}", lambda build=build: {**state, "header": json.dumps({**header, **build()})}  # type: ignore[misc]


def test_a_training_checkpoint_with_nonsense_anywhere_is_refused_or_gone_on_with(
    cli: Cli, tmp_path: Path, trained_run: Path
) -> None:
    step = max((trained_run / "checkpoints").glob("step-*.pt"))
    state = torch.load(step, weights_only=True)
    run, copy = tmp_path / "run", tmp_path / "copy"
    shutil.copytree(trained_run, run)
    (run / "results.json").unlink()
    for path in (run / "checkpoints").glob("step-*"):
        path.unlink()
    path, read, refused, gone_on = run / "checkpoints" / step.name, 0, 0, 0
    cases, faults = sample(list(training_mutations(state)), 80), list[str]()
    for what, build in cases:
        buffer = io.BytesIO()
        torch.save(build(), buffer)
        path.write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps({"sha256": [digest]}))
        with case(faults, what):
            try:
                newest_training(path.parent, lambda _: None)
            except CheckpointError:
                refused += 1
                continue
            read += 1
            if read > amount(2, 10**6):
                continue
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            outcome = cli("train", "--resume", copy, "--epochs", 4, "--allow-changes", *NO_REPORT)
            assert outcome.code in (0, 4), outcome.err
            gone_on += outcome.code == 0
            if outcome.code == 0:
                valid_json((copy / "results.json").read_text())
    check(faults)
    assert refused > len(cases) // 2
    report("sealed training checkpoints with nonsense", f"{len(cases)}: {refused} refused, {gone_on} gone on with")


def refusal_of(run: Path) -> str:
    """What reading the records of a run says against it."""
    try:
        read_records(run)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "signals.jsonl"])
def test_records_with_nonsense_anywhere_are_refused_by_file_and_line_or_make_sense(
    name: str, cli: Cli, tmp_path: Path, trained_run: Path
) -> None:
    run, other, page = tmp_path / "run", tmp_path / "other", tmp_path / "both.html"
    shutil.copytree(trained_run, run)
    shutil.copytree(trained_run, other)
    lines = (run / name).read_text().splitlines() if name != "results.json" else [(run / name).read_text()]
    at = len(lines) - 1
    cases, read, refused = sample(list(mutations(json.loads(lines[at]))), 250), 0, 0
    faults: list[str] = []
    for what, build in cases:
        (run / name).write_text("\n".join([*lines[:at], json.dumps(build()), *lines[at + 1 :]]))
        with case(faults, what):
            refusal = refusal_of(run)
            if refusal:
                assert name in refusal  # files that contradict each other are both named
                assert name == "results.json" or str(at + 1) in refusal
                refused += 1
                continue
            read += 1
            if read <= amount(2, 10**6):
                outcome = cli("report", run, other, "--out", page)
                assert outcome.code == 0 or "has no test result to compare" in outcome.err, outcome.err
            if FULL:
                outcome = cli("report", run, "--robustness", 0, "--out", page, "--json")
                assert outcome.code == 0, outcome.err
                valid_json(outcome.out)
                outcome = cli("runs", tmp_path, "--json")
                assert outcome.code == 0, outcome.err
                valid_json(outcome.out)
                assert cli("runs", tmp_path).code == 0
    check(faults)
    assert refused > len(cases) // 2
    report(f"{name} with nonsense", f"{len(cases)}: {refused} refused by name, {read} reported and compared")


@pytest.mark.parametrize(
    "content",
    [b"image,label\nx,1\n", b"image,label,predicted\nx,1\n", b"\xff\xfe\x00", b"image,label,predicted\nx,1," + b"9" * 200_000],
    ids=["a column less", "a line cut off", "no UTF-8", "a huge field"],
)  # fmt: skip
def test_a_damaged_table_of_predictions_is_refused_by_line(
    content: bytes, cli: Cli, tmp_path: Path, trained_run: Path
) -> None:
    for name in ("one", "other"):
        shutil.copytree(trained_run, tmp_path / name)
        (tmp_path / name / "predictions.csv").write_bytes(content)
    refused = cli("report", tmp_path / "one", tmp_path / "other", "--out", tmp_path / "both.html")
    assert refused.code == 4
    assert "predictions.csv:" in refused.err
    assert not (tmp_path / "both.html").exists()
