"""Several processes of one command: `--processes`, torchrun and srun start them; they speak with one voice."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Cli
from torch.distributed.elastic.agent.server import WorkerState
from torch.distributed.elastic.agent.server.api import RunResult

import cnntrain
from cnntrain.errors import ConfigError, DataError, OtherProcessError
from cnntrain.runtime.failure import failure_of_error
from cnntrain.runtime.launchers import first_host, launched, who_speaks
from cnntrain.runtime.launching import _exit_code
from cnntrain.runtime.processes import Alone
from cnntrain.runtime.signals import Stopped, StopSignals

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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


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


def test_the_events_of_several_copies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match=r"WORLD_SIZE=2.*cnntrain.train trains on all together"):
        cnntrain.events("digits_lenet")


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


WAITING = """
import os, signal, threading
from cnntrain.runtime.joining import joined
from cnntrain.runtime.signals import Stopped, StopSignals
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
try:
    with StopSignals(), joined():
        print("met")
except Stopped as stopped:
    print(stopped)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_for_others_hears_a_signal(rank: int, tmp_path: Path) -> None:
    meeting = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = {**os.environ, **meeting, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-c", WAITING]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stopped by SIGTERM\n", "")


def test_one_request_that_comes_to_a_process_by_two_ways_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = iter((10.0, 10.1, 11.9))
    monkeypatch.setattr("time.monotonic", lambda: next(moment))
    with StopSignals(training=True, processes=Alone(count=2)) as stop:
        with stop.later():
            for _ in range(3):  # the second of one process ends it
                os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            stop.check()


@pytest.mark.skipif(not Path("/proc").exists(), reason="whose children they are is read from /proc")
@pytest.mark.parametrize("killed", ["the second", "the command"])
def test_who_is_killed_while_processes_start_takes_all_along(killed: str, tmp_path: Path) -> None:
    process = start(*TRAIN, "--processes", "2", cwd=tmp_path)
    while len(workers := children(process.pid)) < 2:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(process.pid if killed == "the command" else workers[1], signal.SIGKILL)
    code, out, err = end(process)
    if killed == "the command":
        assert code == -signal.SIGKILL
    else:
        assert (code, out, err) == (5, "", "error: process 1 of 2 was ended by SIGKILL\n")
    until = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


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


def test_what_goes_wrong_in_another_process_is_said_once_with_its_number(tmp_path: Path) -> None:
    words = "process 1 of 2: a bug of cnntrain: KeyError: 'x'"
    (tmp_path / "second.py").write_text(SECOND.format(error="KeyError('x')"))
    port = str(free_port())
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
    assert [(code, out) for code, out, _ in ended] == [(1, ""), (1, "")], ended
    err = "".join(text for *_, text in ended)
    assert err.count("error: ") == err.count(words) == 1
    assert err.count("UserWarning: of all") == err.count("note: of all") == 1
    assert len(list(tmp_path.rglob("bug-*.txt"))) == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("no such file"), 3, "process 1 of 2: no such file"),
        (OSError(28, "No space left on device"), 7, "process 1 of 2: [Errno 28] No space left on device"),
        (MemoryError(), 1, "process 1 of 2: a bug of cnntrain: MemoryError"),
        (KeyboardInterrupt(), 130, "process 1 of 2: interrupted"),
    ],
)
def test_all_processes_end_with_the_code_of_what_went_wrong(error: BaseException, code: int, words: str) -> None:
    heard = failure_of_error(error, 1).error(0, 2)
    assert (heard.exit_code, heard.lines[0]) == (code, words)


def test_a_signal_that_comes_to_another_process_when_all_is_done_is_no_failure() -> None:
    def failures(*codes: int) -> RunResult:
        failed = {rank: SimpleNamespace(exitcode=code) for rank, code in enumerate(codes) if code}
        return RunResult(WorkerState.FAILED, failures=failed)  # type: ignore[arg-type]

    agent: Any = SimpleNamespace(last_signal=0, first_to_fail=1)
    assert _exit_code(failures(0, 75), agent) == 0
    assert _exit_code(failures(75, 75), agent) == 75
    assert _exit_code(failures(0, 1), agent) == 1
    assert _exit_code(failures(3, 3), agent) == 3
