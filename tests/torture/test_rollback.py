"""`on_nonfinite: rollback`: where training goes back to does not depend on what was saved on the way."""

import json
import math
import random
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, Outcome
from harness import CONFIG, FULL, meanwhile, outcome, poison_loss, report
from test_resume import flip, only

from cnntrain.runs.checkpoints import Saved
from cnntrain.runs.saving import Saver
from cnntrain.runtime.signals import Stopped
from cnntrain.training.nonfinite import NonfiniteStep
from cnntrain.training.state import TrainingState

Run = Callable[..., Outcome]
SETTINGS = [
    "recipe.on_nonfinite=rollback", "recipe.checkpoint_every_steps=3", "recipe.epochs=3", "run.tensorboard=false",
]  # fmt: skip


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Run:
    """`cnntrain train`, in a folder of runs that is named first."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    more = [part for setting in SETTINGS for part in ("--set", setting)]
    return lambda name, *rest: cli("train", tmp_path / "small.yaml", "--output", tmp_path / name, *more, *rest)


def poison(patch: pytest.MonkeyPatch, steps: Collection[int], *, once: bool = False) -> None:
    """A NaN in the loss of these steps, each time that they are taken, or the first time."""
    left = list(steps)

    def is_poisoned(step: int) -> bool:
        if step not in left:
            return False
        if once:
            left.remove(step)
        return True

    poison_loss(patch, is_poisoned)


def stop_after(patch: pytest.MonkeyPatch, number: int) -> None:
    def stop(_: Saver, count: int) -> None:
        if count == number:
            raise Stopped(signal.SIGTERM)

    meanwhile(patch, stop)


POISONED = {
    "one": [8],
    "two, the second of them after the first rollback": [8, 10],
    "a step and the one before": [8, 7],
}


@pytest.mark.parametrize("steps", POISONED.values(), ids=POISONED.keys())
def test_stopped_at_any_step_a_rollback_goes_back_to_the_same_state(
    run: Run, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, steps)
    assert run("whole").code == 0
    expected = outcome(tmp_path / "whole")
    assert expected["results"]["rollbacks"] == len(steps)
    stops = range(1, 18) if FULL else (8, 10) if len(steps) == 1 else (7,)
    for number in stops:
        with monkeypatch.context() as patch:
            stop_after(patch, number)
            assert run(f"stopped{number}").code == 75
        done = run(f"stopped{number}", "--resume")
        assert done.code == 0, done.err
        assert outcome(tmp_path / f"stopped{number}") == expected, number
    report("NaN at steps 7 to 10, a signal at any step, on_nonfinite: rollback", f"{len(stops)} signals: 0 differing")


@pytest.mark.parametrize("once", [False, True])
def test_saved_at_any_moments_a_rollback_goes_back_to_the_same_state(
    run: Run, tmp_path: Path, once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        poison(patch, [8, 14], once=once)
        assert run("whole").code == 0
    expected, rng = outcome(tmp_path / "whole"), random.Random(0)
    for number in range(30 if FULL else 1):
        with monkeypatch.context() as patch:
            poison(patch, [8, 14], once=once)
            moments = set(range(40)) if number == 0 else {count for count in range(40) if rng.random() < 0.4}
            meanwhile(patch, lambda saver, count, moments=moments: count in moments and saver.save())  # type: ignore[misc]
            assert run(f"often{number}").code == 0
        assert outcome(tmp_path / f"often{number}") == expected


def test_a_signal_while_it_goes_back_waits_until_that_is_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, [8])
    assert run("whole").code == 0
    gone_back = Saver.gone_back

    def signalled(saver: Saver, saved: Saved, error: NonfiniteStep) -> None:
        signal.raise_signal(signal.SIGTERM)
        gone_back(saver, saved, error)

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "gone_back", signalled)
        stopped = run("stopped")
    assert stopped.code == 75
    assert "; back to step 6, with half the learning rate" in stopped.err
    done = run("stopped", "--resume")
    assert done.code == 0, done.err
    assert "; back to step" not in done.err
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_what_is_new_in_an_epoch_is_said_each_time_that_it_is_begun(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, [0])
    done = run("runs")
    assert done.code == 0, done.err
    assert done.err.count("     images of 6 px\n") == 2


def test_many_stops_in_one_run_change_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, [8])
    assert run("whole").code == 0
    for _ in range(3):
        with monkeypatch.context() as patch:
            stop_after(patch, 1 if list(tmp_path.glob("stopped/*/2*")) else 7)
            assert run("stopped", "--resume").code == 75
    names = sorted(path.name for path in (only(tmp_path / "stopped") / "checkpoints").glob("step-*.pt"))
    assert names == ["step-00000003.pt", "step-00000006.pt", "step-00000007.pt"]
    assert run("stopped", "--resume").code == 0
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def stopped_at_8(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        assert run("runs", *more).code == 75
    return only(tmp_path / "runs")


@pytest.mark.parametrize(("damaged", "back_to"), [(["6"], 3), (["6", "3"], 8)])
def test_where_the_checkpoint_to_go_back_to_is_damaged_the_one_before_is_taken_and_it_is_said(
    run: Run, tmp_path: Path, damaged: list[str], back_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped_at_8(run, tmp_path, monkeypatch)
    for step in damaged:
        flip(folder / f"checkpoints/step-0000000{step}.pt")
    poison(monkeypatch, [8])
    done = run("runs", "--resume")
    assert done.code == 0, done.err
    assert "step-00000006.pt: damaged" in done.err
    assert "the result is not that of an undamaged run" in done.err
    assert f"; back to step {back_to}, with half the learning rate" in done.err
    assert json.loads((folder / "results.json").read_text())["rollbacks"] == 1


def test_checkpoints_that_are_gone_are_one_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(saver: Saver, count: int) -> None:
        if count == 8:
            for path in saver.log.folder.glob("checkpoints/step-*"):
                path.unlink()

    poison(monkeypatch, [8])
    meanwhile(monkeypatch, remove)
    lost = run("runs")
    assert lost.code == 4
    assert "holds no checkpoint any more to go back to" in lost.err


def test_with_other_intervals_it_goes_back_to_what_the_run_saved_regularly(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_at_8(run, tmp_path, monkeypatch)
    poison(monkeypatch, [10])
    done = run("runs", "--resume", "--set", "recipe.checkpoint_every_steps=11")
    assert done.code == 0, done.err
    assert "; back to step 6, with" in done.err


def test_who_chooses_rollback_later_goes_back_to_where_that_began_or_to_what_was_saved_regularly(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = ["--set", "recipe.on_nonfinite=stop", "--set", "recipe.checkpoint_every_steps=null"]
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run("early", *stop).code == 75
    with monkeypatch.context() as patch:
        poison(patch, [5])
        early = run("early", "--resume", "--set", "recipe.checkpoint_every_steps=null")
    assert early.code == 0, early.err
    assert "; back to step 4, with" in early.err
    poison(monkeypatch, [9])
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        assert run("runs", *stop).code == 75
    late = run("runs", "--resume")
    assert late.code == 0, late.err
    assert "; back to step 6, with" in late.err


@pytest.mark.parametrize(("batch_size", "back_to"), [(128, 11), (512, 3)])
def test_with_other_batches_it_goes_back_to_where_they_began(
    run: Run, tmp_path: Path, batch_size: int, back_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped_at_8(run, tmp_path, monkeypatch)
    poison(monkeypatch, [back_to + 1])
    done = run("runs", "--resume", "--allow-changes", "--set", f"recipe.batch_size={batch_size}",
               "--set", "recipe.checkpoint_every_steps=100", "--set", "recipe.checkpoint_every_minutes=0.00001")  # fmt: skip
    assert done.code == 0, done.err
    assert f"; back to step {back_to}, with" in done.err
    changes = json.loads((folder / "results.json").read_text())["changes"]
    assert f"recipe.batch_size: 256 -> {batch_size}" in " ".join(changes)  # of before the rollback


def test_a_save_by_the_clock_does_not_end_what_a_rollback_would_save(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are spoilt by an update whose loss and gradients were finite."""
    update = TrainingState.update

    def spoil(state: TrainingState) -> None:
        update(state)
        if state.step == 8 and state.scheduler.reduction == 1:
            with torch.no_grad():
                next(state.network.parameters()).fill_(math.nan)

    monkeypatch.setattr(TrainingState, "update", spoil)
    assert run("whole").code == 0
    often = run("often", "--set", "recipe.checkpoint_every_minutes=0.00001")
    assert often.code == 0, often.err
    assert "the weights are not finite, so step 8 is not saved" in often.err
    assert outcome(tmp_path / "often") == outcome(tmp_path / "whole")


def test_a_rollback_loses_no_time_that_was_spent(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(float(second) for second in range(10**6))
    monkeypatch.setattr("cnntrain.runs.saving.time.monotonic", lambda: next(clock))
    poison(monkeypatch, [8])
    seen: list[float] = []
    meanwhile(monkeypatch, lambda saver, _: seen.append(saver.outcome()["train_seconds"]))
    assert run("runs").code == 0
    assert seen == sorted(seen)


def test_the_total_is_of_all_processes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Any]] = []
    for number in (3, 5, 0):
        with monkeypatch.context() as patch:
            stop_after(patch, number)
            ended = run("runs", "--resume")
            assert ended.code == (75 if number else 0)
        state = torch.load(max((only(tmp_path / "runs") / "checkpoints").glob("step-*.pt")), weights_only=True)
        found.append(state["progress"])
    results = json.loads((only(tmp_path / "runs") / "results.json").read_text())
    totals = [one["total_seconds"] for one in found]
    assert totals == sorted(totals)
    assert all(one["seconds"] < one["total_seconds"] for one in found)
    assert results["total_seconds"] > totals[-1] > results["train_seconds"] - 1
    assert results["train_seconds"] < results["total_seconds"]
