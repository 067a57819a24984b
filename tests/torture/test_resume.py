"""`cnntrain train --resume`: what it goes on with, what it refuses, and that it ends as if it had not stopped."""

import hashlib
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, Outcome, write_photos
from harness import CONFIG, FULL, meanwhile, outcome, poison_loss

from cnntrain.runs import resume
from cnntrain.runs.saving import Saver
from cnntrain.runtime.signals import Stopped
from cnntrain.tasks.evaluation import evaluate

Run = Callable[..., Outcome]


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Run:
    """`cnntrain train`, in a folder of runs that is named first."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    return lambda name, *more: cli("train", tmp_path / "small.yaml", "--output", tmp_path / name, *more)


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """A signal, between two steps."""

    def stop(saver: Saver, _: int) -> None:
        if saver.state.step == step:
            raise Stopped(signal.SIGTERM)

    meanwhile(patch, stop)


def only(folder: Path) -> Path:
    """The only run in a folder of runs."""
    [found] = folder.glob("*/2*")
    return found


SETTINGS = {
    "all at once": [],
    "adamw, cosine, weights in the loss, cutmix": [
        "recipe.optimizer=adamw", "recipe.schedule={name: cosine, warmup_fraction: 0.2}", "recipe.balance=weights",
        "data.augment=[horizontal_flip, cutmix, random_erasing]", "recipe.clip_grad_norm=0.5",
    ],
    "sampler, one cycle, bfloat16": ["recipe.balance=sampler", "recipe.schedule=one_cycle", "recipe.precision=bfloat16"],
    "two-stage unfreezing": ["model=resnet20", "model.freeze=backbone", "recipe.unfreeze={epoch: 2}"],
    "no averaging, no TensorBoard": ["recipe.averaging=null", "run.tensorboard=false", "recipe.schedule=constant"],
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_stopped_anywhere_a_training_ends_as_if_it_had_not_been(
    run: Run, tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [part for setting in settings for part in ("--set", setting)]
    assert run("whole", *more).code == 0
    expected = outcome(tmp_path / "whole")
    for step in (1, 6, 9, 17, 23) if FULL else (6, 9):
        with monkeypatch.context() as patch:
            stop_at(step, patch)
            stopped = run(f"stopped{step}", *more)
        assert stopped.code == 75, stopped.err
        assert f"go on with it: cnntrain train --resume {only(tmp_path / f'stopped{step}')}" in stopped.err
        done = run(f"stopped{step}", "--resume", *more)
        assert done.code == 0, done.err
        assert f"on from step {step}, " in done.err
        assert outcome(tmp_path / f"stopped{step}") == expected


def test_stopped_while_it_is_validated_an_epoch_is_validated_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("whole").code == 0
    calls = 0

    def stopping(*arguments: Any, **how: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Stopped(signal.SIGINT)
        return evaluate(*arguments, **how)

    monkeypatch.setattr("cnntrain.training.loop.evaluate", stopping)
    stopped = run("stopped")
    assert stopped.code == 130
    assert "error: interrupted" in stopped.err
    assert run("stopped", "--resume").code == 0
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_stopped_while_it_is_tested_a_run_is_tested_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("cnntrain.trained.finishing.load", lambda *_: (_ for _ in ()).throw(Stopped(signal.SIGUSR1)))
        assert run("stopped").code == 75
    assert run("stopped", "--resume").code == 0
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_without_a_run_training_begins_and_a_finished_one_is_left_as_it_is(run: Run, cli: Cli, tmp_path: Path) -> None:
    begun = run("runs", "--resume")
    assert begun.code == 0
    assert "nothing to go on with" in begun.err
    folder = only(tmp_path / "runs")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for again in (run("runs", "--resume"), cli("train", "--resume", folder), cli("train", "--resume", folder.parent)):
        assert again.code == 0
        assert f"{folder} is finished: all 4 epochs are done" in again.out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_newest_unfinished_run_is_gone_on_with(
    run: Run, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        assert run("runs").code == 75
    unfinished = only(tmp_path / "runs")
    assert run("runs").code == 0
    done = cli("train", "--resume", "--output", tmp_path / "runs")
    assert done.code == 0, done.err
    assert f"going on with {unfinished}" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--resume", "gone"], 4, "gone: no run folder"),
        (["gone"], 2, "RUN goes with --resume"),
        (["--allow-changes"], 2, "--allow-changes goes with --resume"),
    ],
)
def test_a_wrong_use_is_one_message(run: Run, arguments: list[str], code: int, message: str) -> None:
    refused = run("runs", *arguments)
    assert refused.code == code
    assert message in refused.err
    assert "Traceback" not in refused.err


def test_nothing_to_train_and_nothing_to_go_on_with_are_said(cli: Cli, tmp_path: Path) -> None:
    assert "say what to train" in cli("train").err
    none = cli("train", "--resume", "--output", tmp_path)
    assert none.code == 4
    assert f"no run in {tmp_path} to go on with" in none.err


def test_another_configuration_is_refused_unless_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    settings = ["--set", "recipe.optimizer.lr=0.1", "--set", "recipe.batch_size=128", "--set", "run.log_every_steps=5"]
    refused = run("runs", "--resume", *settings)
    assert refused.code == 2
    assert "recipe.optimizer.lr: 0.3 -> 0.1" in refused.err
    assert "recipe.batch_size: 256 -> 128" in refused.err
    assert "log_every_steps" not in refused.err
    assert "--allow-changes" in refused.err
    done = run("runs", "--resume", "--allow-changes", "--set", "recipe.optimizer.lr=0.1")
    assert done.code == 0, done.err
    assert "note: changed: recipe.optimizer.lr: 0.3 -> 0.1" in done.err
    assert "learning rate 0.1" in done.err
    assert "lr: 0.1" in (only(tmp_path / "runs") / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["recipe.batch_size=128"], "note: 11 steps an epoch instead of 6: epoch 2 begins anew"),
        (["recipe.batch_size=512"], "note: 3 steps an epoch instead of 6: epoch 2 begins anew"),
        (["recipe.optimizer=adam"], "changed: recipe.optimizer.name: sgd -> adam"),
        (["recipe.optimizer.momentum=0.5", "recipe.optimizer.weight_decay=0"], "momentum: 0.9 -> 0.5"),
        (["recipe.schedule=one_cycle"], "changed: recipe.schedule.name: reduce_on_plateau -> one_cycle"),
        (["recipe.early_stopping.metric=accuracy"], "changed: recipe.early_stopping.metric: loss -> accuracy"),
        (["recipe.averaging=null"], "changed: recipe.averaging"),
        (["recipe.precision=float16"], "changed: recipe.precision: float32 -> float16"),
        (["data.augment=[]"], "changed: data.augment"),
    ],
)
def test_what_is_changed_holds_from_then_on(
    run: Run, tmp_path: Path, settings: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    more = [part for setting in settings for part in ("--set", setting)]
    done = run("runs", "--resume", "--allow-changes", *more)
    assert done.code == 0, done.err
    assert message in done.err
    folder = only(tmp_path / "runs")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    changes = json.loads((folder / "results.json").read_text())["changes"]
    assert settings[0].partition("=")[0] in " ".join(changes)
    assert changes[0].startswith("step ")
    assert lines[3]["step"] - lines[2]["step"] == {"128": 11, "512": 3}.get(settings[0][-3:], 6)
    assert json.loads((folder / "results.json").read_text())["test"]["accuracy"] > 0.2
    [group] = torch.load(max(folder.glob("checkpoints/step-*.pt")), weights_only=True)["optimizer"]["param_groups"]
    if "momentum" in settings[0]:
        assert (group["momentum"], group["weight_decay"]) == (0.5, 0)


def test_another_network_is_refused_and_nothing_is_changed(run: Run, tmp_path: Path) -> None:
    assert run("runs").code == 0
    folder = only(tmp_path / "runs")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = run("runs", "--resume", "--allow-changes", "--epochs", 6, "--set", "model=lenet5")
    assert refused.code in (2, 4)
    refused = run(
        "runs", "--resume", "--allow-changes", "--epochs", 6,
        "--set", "model.layers.0={name: conv2d, out_channels: 5, kernel_size: 3}",
    )  # fmt: skip
    assert refused.code == 4, refused.err
    assert "the checkpoint is of another network" in refused.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_of_several_unfinished_runs_the_one_of_the_same_configuration_is_meant(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        for seed in (0, 1, 2):
            assert run("runs", "--seed", seed).code == 75
    folders = sorted((tmp_path / "runs").glob("small/2*"))
    done = run("runs", "--resume", "--seed", 1)
    assert done.code == 0, done.err
    assert f"going on with {folders[1]}" in done.err
    again = run("runs", "--resume", "--seed", 1)
    assert f"{folders[1]} is finished" in again.out


def test_a_name_with_brackets_is_found(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs", "--name", "a[1]")
    assert "going on with" in run("runs", "--resume", "--name", "a[1]").err
    assert only(tmp_path / "runs").parent.name == "a[1]"


def test_a_run_is_named_in_many_ways(run: Run, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    folder = only(tmp_path / "runs")
    shutil.copytree(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        assert "on from step 8" in run("runs", "--resume", folder.name).err
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "elsewhere", folder)
    for name in (f"small/{folder.name}", "runs/latest", "latest", "runs/small", "elsewhere/", "elsewhere/config.yaml"):
        shutil.copytree(tmp_path / "elsewhere", tmp_path / "spare")
        done = cli("train", "--resume", name)
        assert done.code == 0, done.err
        assert "on from step 8" in done.err
        used = tmp_path / "elsewhere" if name.startswith("elsewhere") else folder
        assert (used / "results.json").exists()
        shutil.rmtree(used)
        (tmp_path / "spare").rename(used)


def test_a_shipped_name_beside_another_runs_name_is_a_configuration(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ("train", "digits_lenet", "--epochs", "1", "--set", "run.report=false")
    assert cli(*train).code == 0  # its folder of runs is called as the configuration is
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        assert cli(*train, "--name", "mine").code == 75
    [stopped] = (tmp_path / "runs" / "mine").iterdir()
    assert f"going on with {stopped}" in cli(*train, "--name", "mine", "--resume").err


def test_fine_tuning_goes_on_without_the_weights_that_it_began_with(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("pretrained", "--set", "data.resize=letterbox").code == 0
    weights = only(tmp_path / "pretrained")
    more = ["--set", f"model.weights={weights}", "--set", "model.layers.5={name: dropout, p: 0.1}"]
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        assert run("runs", *more).code == 75
    other = run("runs", "--resume", "--set", "model.weights=/nowhere", *more[2:])
    assert other.code == 2
    assert "model.weights: " in other.err
    (weights / "checkpoints" / "best.safetensors").unlink()
    done = run("runs", "--resume", *more)
    assert done.code == 0, done.err
    assert "resize: letterbox" in (only(tmp_path / "runs") / "config.yaml").read_text()


def test_weights_that_no_checkpoint_knows_of_are_set_aside(run: Run, tmp_path: Path) -> None:
    assert run("runs").code == 0
    folder = only(tmp_path / "runs")
    best = (folder / "checkpoints" / "best.safetensors").read_bytes()
    (folder / "results.json").unlink()
    for path in folder.glob("checkpoints/step-*"):
        path.unlink()
    done = run("runs", "--resume")
    assert done.code == 0
    assert "no checkpoint knows of best.safetensors; it is kept as set-aside.safetensors" in done.err
    assert (folder / "checkpoints" / "set-aside.safetensors").read_bytes() == best


def test_a_damaged_results_file_is_no_disaster(run: Run, tmp_path: Path) -> None:
    assert run("runs", "--epochs", 2).code == 0
    (only(tmp_path / "runs") / "results.json").write_text("{")
    assert run("runs", "--resume", "--epochs", 3).code == 0


def photos_stopped_at_5(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[str]:
    """A training on photos in `root` that was stopped; how it was asked for, the folder apart."""
    settings = ["--set", "data.source=image_folder", "--set", "recipe.batch_size=20", *more]
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        assert run("runs", *settings, "--set", f"data.root={root}").code == 75
    return settings


@pytest.mark.parametrize("allowed", [[], ["--allow-changes"], ["--allow-changes", "--set", "recipe.optimizer.lr=0.1"]])
def test_other_images_are_refused_whatever_else_may_change(
    run: Run, tmp_path: Path, allowed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_photos(tmp_path / "photos", {"train": 30})
    settings = photos_stopped_at_5(run, root, monkeypatch)
    folder = only(tmp_path / "runs")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    victim = next((root / "train" / "red").iterdir())
    content = victim.read_bytes()
    victim.write_bytes(next((root / "train" / "blue").iterdir()).read_bytes())
    refused = run("runs", "--resume", *settings, "--set", f"data.root={root}", *allowed)
    assert refused.code == 3
    assert f"the images are not those that {folder} began with (" in refused.err
    assert f"--set model.weights={folder}" in refused.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    victim.write_bytes(content)
    (root / "train" / "red").rename(root / "train" / "scarlet")
    renamed = run("runs", "--resume", *settings, "--set", f"data.root={root}", *allowed)
    assert renamed.code == 3
    assert "classes: blue, green, red then, blue, green, scarlet now" in renamed.err


WAYS = {
    "--set, of the run": lambda folder, there: ["--resume", folder, "--set", f"data.root={there}"],
    "--set, relative": lambda folder, there: ["--resume", folder, "--set", f"data.root={there.name}"],
    "--data-root, the folder itself": lambda folder, there: ["--resume", folder, "--data-root", there],
    "in the configuration": lambda folder, there: ["{config}", "--resume", "--set", f"data.root={there}"],
    "--data-root and the same configuration": lambda folder, there: [
        "{config}", "--resume", "--set", f"data.root={there.parent / 'here'}", "--data-root", there
    ],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_folder_of_images_may_move_without_more_ado(
    run: Run, cli: Cli, tmp_path: Path, way: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    settings = photos_stopped_at_5(run, write_photos(tmp_path / "here", {"train": 30}), monkeypatch)
    (tmp_path / "here").rename(there)
    arguments = way(only(tmp_path / "runs"), there)
    by_config = arguments[0] == "{config}"
    done = run("runs", *settings, *arguments[1:]) if by_config else cli("train", *arguments)
    assert done.code == 0, done.err
    assert json.loads((only(tmp_path / "runs") / "results.json").read_text())["changes"] == []
    assert cli("evaluate", only(tmp_path / "runs")).code == 0


def test_a_data_root_that_was_said_and_did_not_matter_does_not_matter_when_going_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_photos(tmp_path / "here", {"train": 30})
    settings = photos_stopped_at_5(run, root, monkeypatch, "--data-root", str(tmp_path))
    assert run("runs", "--resume", *settings, "--set", f"data.root={root}").code == 0


def without_dead_relus(found: dict[str, Any]) -> dict[str, Any]:
    """They are looked for at the end too, and the end was another one."""
    metrics = [{key: value for key, value in line.items() if key != "dead_relus"} for line in found["metrics"]]
    return {**found, "metrics": metrics, "scalars": [one for one in found["scalars"] if "dead_relus" not in one[1]]}


def test_a_finished_run_is_trained_further(run: Run, tmp_path: Path) -> None:
    constant = ["--set", "recipe.schedule=constant", "--set", "recipe.progressive_resizing=null"]
    assert run("whole", "--epochs", 5, *constant).code == 0
    assert run("runs", "--epochs", 3, *constant).code == 0
    further = run("runs", "--resume", "--epochs", 5, *constant)
    assert further.code == 0, further.err
    assert "note: 5 epochs instead of 3" in further.err
    assert "on from step 18, epoch 4, learning rate 0.3" in further.err
    assert without_dead_relus(outcome(tmp_path / "runs")) == without_dead_relus(outcome(tmp_path / "whole"))
    assert json.loads((only(tmp_path / "runs") / "results-3-epochs.json").read_text())["epochs_run"] == 3


def test_more_patience_trains_a_run_further_that_stopped_early(run: Run) -> None:
    early = ["--set", "recipe.early_stopping={metric: loss, patience: 1, min_delta: 100}"]
    assert run("runs", *early).code == 0
    patient = ["--set", "recipe.early_stopping={metric: loss, patience: 9, min_delta: 100}"]
    further = run("runs", "--resume", "--allow-changes", *patient)
    assert further.code == 0
    assert "on from step 12, epoch 3" in further.err
    assert "all 4 epochs are done" in run("runs", "--resume", *patient).out


def test_a_run_that_stopped_early_stays_finished(run: Run) -> None:
    early = ["--set", "recipe.early_stopping={metric: loss, patience: 1, min_delta: 100}"]
    assert run("runs", *early).code == 0
    again = run("runs", "--resume", "--epochs", 40, *early)
    assert again.code == 0
    assert "is finished: early stopping ended it, after 1 epochs without improvement" in again.out


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_damaged_checkpoints_are_named_and_the_newest_whole_one_is_taken(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("whole").code == 0
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        run("runs")
    folder = only(tmp_path / "runs") / "checkpoints"
    assert [path.name for path in sorted(folder.glob("step-*.pt"))] == ["step-00000008.pt", "step-00000009.pt"]
    best = (folder / "best.safetensors").read_bytes()
    flip(folder / "step-00000009.pt")
    flip(folder / "best.safetensors")
    shutil.copytree(tmp_path / "runs", tmp_path / "hopeless")
    with monkeypatch.context() as patch:
        stop_at(10, patch)
        stopped = run("runs", "--resume")
    assert "step-00000009.pt: damaged" in stopped.err
    assert "on from step 8" in stopped.err
    assert [path.name for path in sorted(folder.glob("step-*.pt"))] == ["step-00000008.pt", "step-00000010.pt"]
    assert (folder / "best.safetensors").read_bytes() == best
    done = run("runs", "--resume")
    assert done.code == 0, done.err
    assert outcome(tmp_path / "runs") == outcome(tmp_path / "whole")
    flip(only(tmp_path / "hopeless") / "checkpoints" / "step-00000008.pt")
    lost = run("hopeless", "--resume")
    assert lost.code == 4
    assert "no training checkpoint is whole" in lost.err


def test_no_image_moves_from_training_to_test(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    refused = run("runs", "--resume", "--allow-changes", "--set", "data.test_fraction=0.4")
    assert refused.code == 2
    assert "data.test_fraction: 0.2 -> 0.4 would move images between training and test" in refused.err


def test_fewer_epochs_than_are_done_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(20, patch)
        run("runs")
    refused = run("runs", "--resume", "--allow-changes", "--epochs", 2)
    assert refused.code == 2
    assert "recipe.epochs is 2, and 3 are done" in refused.err


def test_a_damaged_config_is_restored_from_the_checkpoint(
    run: Run, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    path = only(tmp_path / "runs") / "config.yaml"
    content = path.read_text()
    for step, damage in ((9, lambda: path.unlink()), (10, lambda: path.write_bytes(b"\0"))):
        damage()
        with monkeypatch.context() as patch:
            stop_at(step, patch)
            stopped = cli("train", "--resume", path.parent)
        assert stopped.code == 75, stopped.err
        assert "was damaged or missing, and is that of the newest checkpoint again" in stopped.err
        assert path.read_text() == content
    assert cli("train", "--resume", path.parent).code == 0


def test_checkpoints_without_their_manifests_are_not_overwritten(run: Run, cli: Cli, tmp_path: Path) -> None:
    assert run("runs").code == 0
    folder = only(tmp_path / "runs")
    (folder / "results.json").unlink()
    manifests = {path: path.read_bytes() for path in folder.glob("checkpoints/step-*.json")}
    for path in manifests:
        path.unlink()
    refused = run("runs", "--resume")
    assert refused.code == 4
    assert "step-00000024.pt has no manifest" in refused.err
    for path, content in manifests.items():
        path.write_bytes(content)
    max(folder.glob("checkpoints/step-*.pt")).unlink()
    done = cli("train", "--resume", max(folder.glob("checkpoints/step-*.pt")))
    assert done.code == 0, done.err
    assert "step-00000024.pt: cannot be read: No such file" in done.err


def test_a_checkpoint_of_another_program_is_no_bug_of_ours(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    path = max(only(tmp_path / "runs").glob("checkpoints/step-*.pt"))
    for older in set(path.parent.glob("step-*")) - {path, path.with_suffix(".json")}:
        older.unlink()  # which would be gone on from
    state = torch.load(path, weights_only=True)
    environment = state["environment"]
    for key, value in (
        ("environment", {**environment, "threads": 10**6}), ("environment", {}), ("optimizer", {}), ("progress", {}),
        ("log", {}), ("scheduler", {"next_step": "x"}), ("stopping", 3),
    ):  # fmt: skip
        torch.save({**state, key: value}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps({"sha256": [digest]}))
        refused = run("runs", "--resume")
        assert refused.code == 4, (key, refused.err)
        assert f"{path.name}: no training checkpoint of this version" in refused.err


def test_damaged_weights_are_refused(run: Run, cli: Cli, tmp_path: Path) -> None:
    assert run("runs").code == 0
    best = only(tmp_path / "runs") / "checkpoints" / "best.safetensors"
    flip(best)
    for refused in (cli("evaluate", best), run("other", "--set", f"model.weights={best}")):
        assert refused.code == 4
        assert "damaged" in refused.err


def test_a_run_that_is_being_trained_is_left_alone(
    run: Run, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Outcome] = []

    def resume_too(saver: Saver, _: int) -> None:
        if saver.state.step == 9:
            refused.append(cli("train", "--resume", "--output", tmp_path / "runs"))

    meanwhile(monkeypatch, resume_too)
    assert run("runs").code == 0
    assert refused[0].code == 7
    assert "is being trained by another process" in refused[0].err


def test_another_machine_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        patch.setattr(
            "cnntrain.runs.saving.environment",
            lambda: {"torch": "2.10.0", "threads": 1, "processes": 4, "processor": "AVX2"},
        )
        run("runs")
    now = {"torch": "2.11.0", "threads": 1, "processes": 2, "processor": "AVX512"}
    monkeypatch.setattr(resume, "environment", lambda: now)
    done = run("runs", "--resume")
    assert done.code == 0
    assert (
        "PyTorch's version was 2.10.0 and is 2.11.0; the processor's instruction set was AVX2 and is AVX512; "
        "the number of processes was 4 and is 2: the last digits may differ" in done.err
    )


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets what PyTorch would take here, and puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def begun_with_two_threads(run: Run, tmp_path: Path, threads: Callable[[int], None]) -> Path:
    """A run that was stopped, where PyTorch would take one thread now."""
    threads(2)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(8, patch)
        run("runs")
    threads(1)
    return only(tmp_path / "runs")


def test_the_number_of_threads_is_that_of_the_beginning_unless_another_is_asked_for(
    run: Run, begun_with_two_threads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = begun_with_two_threads / "config.yaml"
    assert "threads: 2" in config.read_text()
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        kept = run("runs", "--resume")
    assert "cpu, 2 threads" in kept.err
    assert "note: threads: 2, as before, where PyTorch would take 1; --set run.threads=1 takes these" in kept.err
    done = run("runs", "--resume", "--set", "run.threads=1")
    assert done.code == 0, done.err
    assert "cpu, 1 thread," in done.err
    assert "note: threads: 1 instead of 2: the last digits may differ" in done.err
    assert "threads: 1" in config.read_text()


def test_a_run_of_a_version_without_run_threads_goes_on_with_as_many_as_it_had(
    run: Run, begun_with_two_threads: Path
) -> None:
    config = begun_with_two_threads / "config.yaml"
    config.write_text(re.sub(r"  threads: 2\n", "", config.read_text()))
    path = max((begun_with_two_threads / "checkpoints").glob("step-*.pt"))
    state = torch.load(path, weights_only=True)
    header = json.loads(state["header"])
    del header["config"]["run"]["threads"]
    for key in ("rollback_steps", "total_seconds"):
        del state["progress"][key]
    torch.save({**state, "header": json.dumps(header)}, path)
    path.with_suffix(".json").write_text(json.dumps({"sha256": [hashlib.sha256(path.read_bytes()).hexdigest()]}))
    done = run("runs", "--resume")
    assert done.code == 0, done.err
    assert "cpu, 2 threads" in done.err
    results = json.loads((begun_with_two_threads / "results.json").read_text())
    assert results["total_seconds"] >= results["train_seconds"]


@pytest.mark.parametrize("step", [1, 3, 8])
def test_a_stop_in_the_first_epoch_loses_no_picture(
    run: Run, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        assert run("runs").code == 75
    assert run("runs", "--resume").code == 0
    assert [tag for tag in pictures(only(tmp_path / "runs")) if tag == "train/augmented"] == ["train/augmented"]


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_the_first_images_are_drawn_where_the_first_step_is_left_out_too(
    run: Run, tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_loss(monkeypatch, lambda step: step == 0)
    done = run("runs", "--set", f"recipe.on_nonfinite={policy}")
    assert done.code == 0, done.err
    assert done.err.count(" 6  update") == 1
    assert pictures(only(tmp_path / "runs")).count("train/augmented") == 1


def pictures(folder: Path) -> list[str]:
    """The tags of the images in the event files."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return [
        value.tag
        for path in folder.glob("events.out.tfevents.*")
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.HasField("image")
    ]


def test_a_checkpoint_by_time(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = Saver.save

    def watched(saver: Saver) -> None:
        saved.append(saver.state.step)
        save(saver)

    monkeypatch.setattr(Saver, "save", watched)
    often = ["--set", "recipe.checkpoint_every_steps=null", "--set", "recipe.checkpoint_every_minutes=0.00001"]
    assert run("often", *often).code == 0
    assert saved[:8] == [1, 2, 3, 4, 5, 6, 6, 7]
    saved.clear()
    seldom = ["--set", "recipe.checkpoint_every_steps=null", "--set", "recipe.checkpoint_every_minutes=null"]
    assert run("seldom", *seldom).code == 0
    assert saved == [6, 12, 18, 24]
