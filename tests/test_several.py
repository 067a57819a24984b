"""One process against 2, 3 and 4: what is learnt is the same, within rounding, or with `recipe.shards` to the last bit.

In float64 the same calculation in another order differs by about 1e-15, and by what small variances make of it; any
other calculation differs by far more. In float32 rounding is all that is left: a network without batch norm then differs
by 1e-7, with batch norm over few values by up to 3e-5; one process whose batches are turned around differs as much.
"""

import fcntl
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from several import COUNTS, Case, Outcome
from several_cases import APART, CASES, CLOSE, COUNTED, DOUBLED, REVERSED, ROUNDED, SHARDED, SPOILED

Outcomes = dict[int, dict[str, Outcome]]


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """By the number of processes, what came of each case; computed once, however many processes run the tests."""
    shared = tmp_path_factory.getbasetemp()
    out = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "several"
    out.mkdir(exist_ok=True)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / f"{COUNTS[-1]}.pt").exists():
            command = [sys.executable, str(Path(__file__).parent / "several.py"), str(out)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert ended.returncode == 0, ended.stdout + ended.stderr
    return {count: torch.load(out / f"{count}.pt", weights_only=False) for count in COUNTS}


def several(cases: dict[str, Case]) -> pytest.MarkDecorator:
    """Each case on each number of processes above one."""
    return pytest.mark.parametrize(
        ("name", "count"), [(name, count) for name, case in cases.items() for count in case.counts if count > 1]
    )


def distance(one: Outcome, other: Outcome) -> float:
    """The largest difference of losses and metrics, relatively where they are above 1, and of weights."""
    assert len(one.losses) == len(other.losses)
    assert [epoch.keys() for epoch in one.epochs] == [epoch.keys() for epoch in other.epochs]
    pairs = [
        *zip(one.losses, other.losses, strict=True),
        *((value, after[key]) for epoch, after in zip(one.epochs, other.epochs, strict=True) for key, value in epoch.items()),
    ]  # fmt: skip
    numbers = [
        abs(before - after) / max(1, abs(before))
        for before, after in pairs
        if before != after and not (math.isnan(before) and math.isnan(after))
    ]
    weights = [apart(value.double(), other.weights[name].double()) for name, value in one.weights.items()]
    return float(torch.tensor([0.0, *numbers, *weights]).max())  # NaN where one is


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, relatively where values are above 1; the same are not finite."""
    same = (one == other) | ~(one.isfinite() | other.isfinite())
    largest = one[one.isfinite()].abs().max() if one.isfinite().any() else 0.0
    return float((one - other).abs().masked_fill(same, 0.0).max()) / max(1.0, float(largest))


def bound(name: str, case: Case) -> float:
    if name in ROUNDED:
        return 1e-3
    return 1e-6 if "conv2d" in case.model and "batch_norm" not in case.model else 1e-4


@several(CLOSE)
def test_several_processes_learn_what_one_does(name: str, count: int, outcomes: Outcomes) -> None:
    assert distance(outcomes[1][f"close: {name}"], outcomes[count][f"close: {name}"]) < bound(name, CLOSE[name])


@several(DOUBLED)
def test_in_float64_several_processes_learn_what_one_does(name: str, count: int, outcomes: Outcomes) -> None:
    assert distance(outcomes[1][f"doubled: {name}"], outcomes[count][f"doubled: {name}"]) < 1e-9


@pytest.mark.parametrize("name", REVERSED)
def test_one_process_differs_as_much_when_its_sums_are_added_up_in_another_order(name: str, outcomes: Outcomes) -> None:
    turned = distance(outcomes[1][f"close: {name}"], outcomes[1][f"reversed: {name}"])
    assert 1e-9 < turned < bound(name, CLOSE[name])


@pytest.mark.parametrize("count", COUNTS[1:])
def test_the_bound_notices_what_is_wrong(count: int, outcomes: Outcomes) -> None:
    averaged = distance(outcomes[1]["wrong: averaged"], outcomes[count]["wrong: averaged"])
    assert averaged > 100 * bound("plain", CLOSE["plain"])
    different = distance(outcomes[1]["close: batch norm"], outcomes[count]["apart: batch norm of each process"])
    assert different > 100 * bound("batch norm", CLOSE["batch norm"])


@several(SHARDED)
def test_with_shards_any_number_of_processes_learns_the_same_to_the_last_bit(
    name: str, count: int, outcomes: Outcomes
) -> None:
    one, other = outcomes[1][f"sharded: {name}"], outcomes[count][f"sharded: {name}"]
    assert one.digest == other.digest
    assert one.reasons == other.reasons


@several(SPOILED)
def test_what_is_not_finite_on_one_process_is_met_by_all_as_by_one(name: str, count: int, outcomes: Outcomes) -> None:
    one, other = outcomes[1][f"spoiled: {name}"], outcomes[count][f"spoiled: {name}"]
    assert one.reasons
    assert one.reasons == other.reasons
    assert distance(one, other) < 1e-4


@several({name: case for name, case in CASES.items() if not case.averaged})
def test_all_processes_come_to_the_same(name: str, count: int, outcomes: Outcomes) -> None:
    assert not outcomes[count][name].disagrees


@several(APART)
def test_batch_norm_of_each_process_learns(name: str, count: int, outcomes: Outcomes) -> None:
    losses = outcomes[count][f"apart: {name}"].losses
    assert all(0 < loss < 10 for loss in losses)
    assert losses[-1] < losses[0] or "fewer" in name  # of which five steps tell nothing


def test_the_cases_do_what_they_are_for(outcomes: Outcomes) -> None:
    one = {name.partition(": ")[2]: outcome for name, outcome in outcomes[1].items() if name.startswith("close")}
    assert len(one["stopping early"].epochs) < 9
    assert len({epoch["rate"] for epoch in one["plateaus"].epochs}) > 1
    assert all(outcome.losses[0] != outcome.losses[-1] for outcome in one.values())
    assert all(math.isfinite(loss) for outcome in one.values() for loss in outcome.losses)


MESSAGES = {
    "plain": {"sum": 2},  # gradients; loss and correct answers
    "micro-batches": {"sum": 2},
    "everything": {"sum": 3 + 6, "stack": 6},  # weights too; 2 passes of 3 batch norms, there and back
    "batch norm of each process": {"sum": 3},  # what batch norm tracks
    "shards": {"stack": 2},
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_step_sends_no_needless_message_and_makes_no_gpu_wait(name: str, outcomes: Outcomes) -> None:
    assert outcomes[1][f"counted: {name}"].calls[-1] == {}
    for count in (2,) if name == "shards" else (2, 3):  # by memory that they share, by Gloo
        assert outcomes[count][f"counted: {name}"].calls[-1] == MESSAGES[name]
