"""Numbers that are no numbers, memory that is not there, and threads that decode."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, write_photos
from harness import CONFIG, Server, outcome, poison_loss, report, serving

from cnntrain.data.batches import Batch, train_batches
from cnntrain.training.nonfinite import clip_gradients
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory) as made:
        yield made


@pytest.fixture(params=["images", "gradient"])
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 9 meets a NaN, each time that it is taken."""

    def poison(*arguments: Any, **how: Any) -> Iterator[Batch]:
        for step, batch in enumerate(train_batches(*arguments, **how), start=6 * (how["epoch"] - 1) + how["first"]):
            if step == 9:
                batch = Batch(batch.images.clone().index_fill_(0, torch.tensor([3]), math.nan), batch.targets)
            yield batch

    def poison_gradient(state: TrainingState, settings: Settings, loss_sum: torch.Tensor) -> bool:
        if state.step == 9:
            next(state.network.parameters()).grad[0, 0, 0, 0] = math.inf  # type: ignore[index]
        return clip_gradients(state, settings, loss_sum)

    if request.param == "images":
        monkeypatch.setattr("cnntrain.training.loop.train_batches", poison)
    else:
        monkeypatch.setattr("cnntrain.training.loop.clip_gradients", poison_gradient)


@pytest.mark.usefixtures("poisoned")
def test_a_nan_stops_training_before_it_reaches_a_checkpoint(
    cli: Cli, small: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stopped = cli("train", small, "--output", tmp_path / "runs")
    assert stopped.code == 6
    assert "of step 9 is not finite (epoch 2, learning rate 0.3)" in stopped.err
    layer = "the first layer concerned is layers.0: its gradient"
    assert (layer if "gradient" in request.node.name else "the images themselves are not finite") in stopped.err
    assert "lower recipe.optimizer.lr" in stopped.err
    assert "cnntrain train --resume" in stopped.err
    assert "Traceback" not in stopped.err
    [folder] = tmp_path.glob("runs/*/2*/checkpoints")
    steps = sorted(folder.glob("step-*.pt"))
    assert steps[-1].name == "step-00000008.pt"
    assert all(finite(path) for path in steps)
    report("NaN at a step, on_nonfinite: stop", "exit 6, step and layer named, the checkpoint before is finite")


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_nan_is_survived(cli: Cli, small: Path, tmp_path: Path, policy: str) -> None:
    done = cli("train", small, "--output", tmp_path / "runs", "--set", f"recipe.on_nonfinite={policy}")
    assert done.code == 0, done.err
    results = json.loads(next(tmp_path.glob("runs/*/2*/results.json")).read_text())
    assert results["nonfinite_steps"] == 1
    assert results["rollbacks"] == (policy == "rollback")
    assert results["test"]["accuracy"] > 0.3
    [folder] = tmp_path.glob("runs/*/2*/checkpoints")
    state = torch.load(max(folder.glob("step-*.pt")), weights_only=True)
    assert finite(max(folder.glob("step-*.pt")))
    assert state["step"] == 24
    assert state["scheduler"]["reduction"] <= (0.5 if policy == "rollback" else 1)
    report(f"NaN at a step, on_nonfinite: {policy}", "trained to the end, counted in results.json, all weights finite")


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("batch_size", [64, 256])
def test_nothing_but_nans_ends_training(
    cli: Cli, small: Path, tmp_path: Path, policy: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_loss(monkeypatch, lambda _: True)
    settings = ["--set", f"recipe.on_nonfinite={policy}", "--set", f"recipe.batch_size={batch_size}"]
    stopped = cli("train", small, "--output", tmp_path / "runs", *settings)
    assert stopped.code == 6
    assert ("so were 10 steps before" if policy == "skip" else "gone back 5 times") in stopped.err
    assert "it is left out" in stopped.err or policy == "rollback"


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_an_epoch_of_a_single_step_can_be_left_out(
    cli: Cli, small: Path, tmp_path: Path, policy: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_loss(monkeypatch, lambda step: step == 2)
    settings = [f"recipe.on_nonfinite={policy}", "recipe.batch_size=2000", f"recipe.precision={precision}"]
    more = [part for setting in settings for part in ("--set", setting)]
    done = cli("train", small, "--output", tmp_path / "runs", *more)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in next(tmp_path.glob("runs/*/2*/metrics.jsonl")).read_text().splitlines()]
    assert len(lines) == 4
    assert lines[2]["train"] == {}
    assert json.loads(next(tmp_path.glob("runs/*/2*/results.json")).read_text())["nonfinite_steps"] == 1


def test_bench_meets_a_nan_with_one_message(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison_loss(monkeypatch, lambda _: True)
    stopped = cli("bench", small, "--rounds", 1, "--set", "recipe.on_nonfinite=rollback")
    assert stopped.code == 6, stopped.err


def finite(path: Path) -> bool:
    state = torch.load(path, weights_only=True)
    return all(bool(torch.isfinite(value).all()) for part in ("model", "kept") for value in state[part].values())


def test_memory_that_is_not_there_is_one_message(server: Server) -> None:
    hungry = ["model: {name: alexnet, variant: small}", "recipe.batch_size=1200", "recipe.micro_batch=null"]
    settings = [part for setting in hungry for part in ("--set", setting.replace(": ", "=", 1))]
    settings += ["--set", "data.image_size=128", "--set", "recipe.progressive_resizing=null"]
    ended = server.run("train", "small.yaml", *settings, "--output", server.folder / "hungry", memory=700 * 2**20)
    assert ended.status == 5, ended.text
    assert "out of memory" in ended.text
    assert "recipe.batch_size is 1200, and images have 128 px: set recipe.micro_batch to 600" in ended.text
    assert "Traceback" not in ended.text
    report("RLIMIT_AS", "exit 5, batch and image size named, with a suggestion")


def test_decoding_has_no_processes_that_could_die_and_no_shared_memory_that_could_run_out(tmp_path: Path) -> None:
    from cnntrain.config.schema import Data
    from cnntrain.data.prepare import prepare_data

    root = write_photos(tmp_path / "photos", {"train": 12})
    shared = set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()  # noqa: PTH208
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text() if children.exists() else ""
    config = Data.model_validate(
        {"source": "image_folder", "root": str(root), "image_size": 16, "storage": "stream", "num_workers": 4}
    )
    splits = prepare_data(config)
    splits.train.items()
    assert (children.read_text() if children.exists() else "") == before
    if shared:
        assert set(os.listdir("/dev/shm")) <= shared  # noqa: PTH208


def test_any_number_of_workers_gives_the_same_weights(cli: Cli, small: Path, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", {"train": 30})
    found = []
    for workers in ("0", "1", "2", "4", "null"):
        output = tmp_path / f"runs{workers}"
        done = cli(
            "train", small, "--output", output, "--set", "data.source=image_folder", "--set", f"data.root={root}",
            "--set", "data.storage=stream", "--set", f"data.num_workers={workers}", "--set", "recipe.batch_size=20",
        )  # fmt: skip
        assert done.code == 0, done.err
        found.append(outcome(output))
    assert all(one == found[0] for one in found)
    report("0, 1, 2, 4 workers and one for each core", "the same weights, metrics and results, to the last bit")
