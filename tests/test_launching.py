"""Several processes of one command: `--processes`, torchrun and srun start them; they speak with one voice."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli

from cnntrain.errors import ConfigError, OtherProcessError
from cnntrain.runtime.launchers import first_host, launched, who_speaks

TRAIN = ["train", "digits_lenet", "--set", "run.report=false", "--set", "run.tensorboard=false"]
LONG = [*TRAIN, "--epochs", "2000", "--set", "recipe.early_stopping=null"]


def start(*arguments: str, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cnntrain", *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(*arguments: str, cwd: Path, **variables: str) -> tuple[int, str, str]:
    return end(start(*arguments, cwd=cwd, **variables))


def until_it_trains(cwd: Path, epochs: int = 1) -> Path:
    began = time.monotonic()
    while time.monotonic() - began < 100:
        for metrics in cwd.glob("runs/digits_lenet/*/metrics.jsonl"):
            if len(metrics.read_text().splitlines()) >= epochs:
                return metrics.parent
        time.sleep(0.05)
    raise AssertionError("it does not train")


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_processes_starts_several_that_speak_with_one_voice(tmp_path: Path) -> None:
    code, out, err = run(*TRAIN, "--processes", "2", "--epochs", "2", cwd=tmp_path)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["test", "run"]
    assert [line.split()[0] for line in err.splitlines() if line.startswith("epoch")] == ["epoch", "epoch"]
    assert err.count("use it:") == 1
    assert "torch" not in err
    [folder] = (tmp_path / "runs" / "digits_lenet").iterdir()
    assert json.loads((folder / "results.json").read_text())["epochs_run"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--allow-changes"], 2, "error: --allow-changes goes with --resume"),
        (["--output", "/proc/no"], 7, "error: "),
    ],
)
def test_what_goes_wrong_in_all_processes_is_one_message_with_its_exit_code(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    ended, out, err = run(*TRAIN, "--processes", "2", *arguments, cwd=tmp_path)
    assert (ended, out) == (code, ""), err
    assert [line for line in err.splitlines() if "rror" in line] == [
        line for line in err.splitlines() if line.startswith(words)
    ]
    assert err.count("error: ") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_command_reaches_all_processes_which_save(number: int, code: int, tmp_path: Path) -> None:
    process = start(*LONG, "--processes", "2", cwd=tmp_path)
    folder = until_it_trains(tmp_path)
    process.send_signal(number)
    ended, out, err = end(process)
    assert (ended, out) == (code, ""), err
    assert err.count("error: ") == 1
    assert list((folder / "checkpoints").glob("step-*.pt"))


@pytest.mark.parametrize("number", ["0", "-1", "x", "2.0", "", "99999", "\uff12"])
def test_a_number_of_processes_that_is_none_is_one_message(number: str, cli: Cli, tmp_path: Path) -> None:
    outcome = cli(*TRAIN, f"--processes={number}", "--output", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1
    assert "is no number of processes (allowed: 1 to 1024, auto)" in outcome.err


def test_who_was_started_several_times_starts_no_more(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    outcome = cli(*TRAIN, "--processes", "2", "--output", tmp_path)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "torchrun started this command 2 times (WORLD_SIZE=2), and --processes would have each" in outcome.err


def test_one_process_is_an_ordinary_training(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(*TRAIN, "--processes", "1", "--epochs", "1", "--output", tmp_path)
    assert outcome.code == 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="whose children they are is read from /proc")
def test_processes_of_which_one_is_killed_are_started_anew_and_go_on(tmp_path: Path) -> None:
    often = ["--epochs", "12", "--set", "recipe.checkpoint_every_steps=20", "--processes", "2", "--max-restarts", "1"]
    process = start(*TRAIN, *often, cwd=tmp_path)
    until_it_trains(tmp_path, 2)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    code, _, err = end(process)
    assert code == 0, err
    assert err.count("error: process 1 of 2 ended without a word") == err.count("error: ") == 1
    assert err.count("starting the processes anew") == err.count("going on with ") == 1
    [folder] = (tmp_path / "runs" / "digits_lenet").iterdir()
    epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 13))


def test_srun_starts_processes_that_train_together(tmp_path: Path) -> None:
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost"}
    started = [
        start(
            *TRAIN, "--epochs", "1", cwd=tmp_path,
            **job, SLURM_STEP_NUM_TASKS="2", SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank),
        )
        for rank in range(2)
    ]  # fmt: skip
    (code, out, err), others = (end(process) for process in started)
    assert code == 0, err
    assert out.startswith("test accuracy")
    assert others == (0, "", "")
    [folder] = (tmp_path / "runs" / "digits_lenet").iterdir()
    assert (folder / "results.json").exists()


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"), ("node7,node9", "node7"), ("node[03-05,7],other", "node03"), ("n[1,5]-ib", "n1-ib"),
        ("localhost", "localhost"), ("", ""),
    ],
)  # fmt: skip
def test_the_first_host_is_that_of_slurms_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_mpirun_needs_to_be_told_where_the_processes_meet(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    outcome = cli(*TRAIN, "--output", tmp_path)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "set MASTER_ADDR to the first one's host and MASTER_PORT to a free port" in outcome.err
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert (launch := launched())
    assert launch.address == ("localhost", 29500)


@pytest.mark.parametrize(
    ("rank", "local_rank", "which"), [(0, 0, ""), (1, 1, None), (2, 0, "process 2 of 4: "), (3, 1, None)]
)
def test_what_goes_wrong_before_they_meet_is_said_by_the_first_on_each_machine(
    rank: int, local_rank: int, which: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntrain.runtime.launchers._PATIENCE", 0)
    for name, value in {"WORLD_SIZE": 4, "RANK": rank, "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, str(value))
    assert who_speaks(ConfigError("no")) == which
    assert who_speaks(OtherProcessError(["no"], 2, quiet=True)) is None
    assert who_speaks(OtherProcessError(["no"], 2, quiet=False)) == ""


SECOND = """
import os, sys, warnings
import cnntrain.ten_steps as ten_steps
from cnntrain.__main__ import entry
from cnntrain.errors import DataError
prepare = ten_steps.set_up
def set_up(*arguments, **options):
    warnings.warn("of all", stacklevel=1)
    arguments[2].say("     note: of all", f"     note: of {{os.environ['RANK']}}")
    ready = prepare(*arguments, **options)
    if os.environ["RANK"] == "1":
        options["processes"].count == 2 or sys.exit("alone")
        raise {error}
    return ready
ten_steps.set_up = set_up
entry()
"""


@pytest.mark.parametrize(
    ("error", "code", "words", "num_logs"),
    [
        ("DataError('no such file')", 3, "process 1 of 2: no such file", 0),
        ("KeyError('x')", 1, "process 1 of 2: a bug of cnntrain: KeyError: 'x'", 1),
        ("OSError(28, 'No space left on device')", 7, "process 1 of 2: [Errno 28] No space left on device", 0),
    ],
)
def test_what_goes_wrong_in_another_process_is_said_once_with_its_number(
    error: str, code: int, words: str, num_logs: int, tmp_path: Path
) -> None:
    (tmp_path / "second.py").write_text(SECOND.format(error=error))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = [
        subprocess.Popen(
            [sys.executable, "second.py", *TRAIN],
            cwd=tmp_path,
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "XDG_STATE_HOME": str(tmp_path),
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    ended = [end(process) for process in started]
    assert [(code, out) for code, out, _ in ended] == [(code, ""), (code, "")], ended
    err = "".join(text for *_, text in ended)
    assert err.count("error: ") == err.count(words) == 1
    assert err.count("UserWarning: of all") == err.count("note: of all") == 1
    assert len(list(tmp_path.rglob("bug-*.txt"))) == num_logs
