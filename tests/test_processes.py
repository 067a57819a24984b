"""Several processes of one command: those of a launcher are refused, those that resume begin one run."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Cli

from cnntrain.errors import ConfigError, StorageError
from cnntrain.runs.turns import one_at_a_time
from cnntrain.runtime.launchers import launched, refuse_several_processes

LAUNCHERS = {
    "torchrun": {"WORLD_SIZE": "2", "RANK": "{rank}", "LOCAL_RANK": "{rank}"},
    "srun": {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "{rank}", "SLURM_NTASKS": "2"},
    "mpirun": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "{rank}"},
    "mpirun (others)": {"PMI_SIZE": "2", "PMI_RANK": "{rank}"},
}
ONE_PROCESS = [
    {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
    {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a batch job, whose script runs once
    {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"},
    {"WORLD_SIZE": ""},
    {"WORLD_SIZE": "many"},
    {"WORLD_SIZE": "9" * 5000},
]
COMMANDS = [
    ["lr-find", "digits_lenet"], ["init", "digits_lenet"], ["report"], ["export"], ["explain", "x.png"],
    ["filter", "x.png", "--kernel", "blur"], ["serve"], ["data", "preview", "digits_lenet"],
    ["data", "check", ".", "--page", "x.html"],
]  # fmt: skip


def pretend(patch: pytest.MonkeyPatch, variables: dict[str, str], rank: int = 0) -> None:
    for name, value in variables.items():
        patch.setenv(name, value.format(rank=rank))


@pytest.mark.parametrize("variables", LAUNCHERS.values(), ids=LAUNCHERS.keys())
def test_only_the_first_of_several_processes_says_that_they_are_refused(
    variables: dict[str, str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntrain.runtime.launchers._PATIENCE", 0)
    pretend(monkeypatch, variables)
    first = cli("lr-find", "digits_lenet")
    assert first.code == 2
    assert "and each would do the same" in first.err
    assert "start it once" in first.err
    assert len(first.err.splitlines()) == 1
    pretend(monkeypatch, variables, rank=1)
    assert cli("lr-find", "digits_lenet") == (2, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_that_writes_refuses_several_processes(
    arguments: list[str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pretend(monkeypatch, LAUNCHERS["torchrun"])
    refused = cli(*arguments)
    assert refused.code == 2
    assert "error: torchrun started this command 2 times (WORLD_SIZE=2)" in refused.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variables", ONE_PROCESS)
def test_one_process_is_not_refused_whoever_started_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, variables)
    assert launched() is None
    refuse_several_processes()


def test_what_only_reads_is_answered_by_each_process(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, LAUNCHERS["torchrun"], rank=1)
    assert cli("summary", "digits_lenet").code == 0
    with pytest.raises(SystemExit, match=str(ConfigError.exit_code)):
        refuse_several_processes()


def test_started_three_times_at_once_with_resume_one_run_is_begun(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "cnntrain", "train", "digits_lenet", "--resume", "--epochs", "2", "--output", "runs",
        "--set", "run.report=false", "--set", "run.tensorboard=false",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in started]
    [folder] = (tmp_path / "runs" / "digits_lenet").iterdir()
    assert json.loads((folder / "results.json").read_text())["epochs_run"] == 2
    assert sum("this is the beginning" in text for text, _ in ended) == 1
    for text, code in ended:  # who came late found it in progress, or finished
        assert code == 0 or (code == 7 and "is being trained by another process" in text), text


def test_who_waits_is_let_in_when_the_run_is_there_or_nothing_came_of_it(tmp_path: Path) -> None:
    said, order = list[str](), list[str]()

    def second() -> None:
        with one_at_a_time(tmp_path / "runs", "a", said.append):
            order.append("second")

    def until_it_waits() -> None:
        began = time.monotonic()
        while not said:
            assert time.monotonic() - began < 30, "nobody waits"
            time.sleep(0.01)

    with one_at_a_time(tmp_path / "runs", "a", said.append) as begun:
        waiting = threading.Thread(target=second)
        waiting.start()
        until_it_waits()
        order.append("first")
        begun()
        waiting.join()
    assert order == ["first", "second"]
    assert "another process is about to begin a run in" in said[0]
    assert list(tmp_path.iterdir()) == []  # nothing came of it
    said.clear()
    with one_at_a_time(tmp_path / "runs", "a", said.append):
        waiting = threading.Thread(target=second)
        waiting.start()
        until_it_waits()
    waiting.join()  # its turn came with a folder that was gone by then
    assert order[2:] == ["second"]
    with one_at_a_time(tmp_path / "runs", "a", said.append), one_at_a_time(tmp_path / "runs", "b", said.append):
        assert len(said) == 1


def test_a_folder_of_runs_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(StorageError, match="cannot be made: "), one_at_a_time(tmp_path / "runs", "a", print):
        pass
