"""The command as a process: streams that are closed or that nobody reads, limits of memory, signals at any moment."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

from cnntrain.config.shipped import shipped_configs
from cnntrain.errors import DeviceError
from cnntrain.runtime import exhaustion
from cnntrain.runtime.signals import Stopped

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux holds processes to `ulimit -v`")


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which `cnntrain` is the command."""
    command = f"cnntrain() {{ '{sys.executable}' -m cnntrain \"$@\"; }}; {line}"
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def python(code: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    line = f"ulimit -c 0; {f'ulimit -v {limit};' if limit else ''} '{sys.executable}' -c \"$0\""
    return subprocess.run(["bash", "-c", line, code], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_disturb_neither_the_command_nor_its_files(closed: str, tmp_path: Path) -> None:
    finished = shell(f"cnntrain init digits_lenet my.yaml {closed}; exit $?", tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    shipped = shipped_configs()["digits_lenet"].read_text()
    assert (tmp_path / "my.yaml").read_text() == shipped.replace("configs/digits_lenet.yaml", "my.yaml")


@pytest.mark.parametrize("command", ["configs", "--help", "schema"])
@pytest.mark.parametrize("unbuffered", ["PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"])
def test_a_pipe_that_nobody_reads_is_no_error(command: str, unbuffered: str, tmp_path: Path) -> None:
    finished = shell(f"(export {unbuffered}; sleep 0.1; cnntrain {command}) | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_pipe_that_nobody_reads_keeps_the_exit_code(tmp_path: Path) -> None:
    finished = shell("cnntrain init nothing 2>&1 | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert finished.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_progress_that_cannot_be_written_stops_nothing(trained_run: Path, tmp_path: Path) -> None:
    finished = shell(f"cnntrain evaluate '{trained_run}' 2> /dev/full", tmp_path)
    assert finished.returncode == 0
    assert "top-1" in finished.stdout


@ON_LINUX
@pytest.mark.parametrize(
    "end", ["os.abort()", "ctypes.CDLL(None).exit(1)", "ctypes.string_at(1)", "getattr(ctypes.CDLL(None), 'raise')(7)"]
)
def test_a_library_that_gives_up_under_a_limit_of_memory_ends_in_the_documented_code(end: str) -> None:
    code = (
        "import ctypes, os; from cnntrain.runtime.exhaustion import explain_exhaustion as explain\n"
        f"explain(); os.write(2, b'what the library says'); {end}"
    )
    finished = python(code, limit=4_000_000)
    assert finished.returncode == 5
    assert finished.stderr.startswith("error: out of memory: this process may map 3.81 GiB (`ulimit -v`)")
    assert len(finished.stderr.splitlines()) == 1
    assert python(code).returncode not in (0, 5)  # without a limit nothing is taken for want of memory


@ON_LINUX
@pytest.mark.parametrize("limit", [300_000, 1_200_000, 3_000_000])
def test_too_little_memory_has_one_message_and_the_documented_code(limit: int, tmp_path: Path) -> None:
    finished = shell(f"ulimit -c 0; ulimit -v {limit}; cnntrain summary digits_lenet", tmp_path)
    if limit == 300_000:  # no PyTorch is so small
        assert finished.returncode == 5
    assert finished.returncode in (0, 5)
    assert len(finished.stderr.splitlines()) == (finished.returncode == 5)
    assert "raise that limit" in finished.stderr or finished.returncode == 0


def test_a_limit_that_leaves_no_room_is_named_before_anything_waits_for_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exhaustion.check_room()
    monkeypatch.setattr(exhaustion, "memory_limit", lambda: 2**20)
    with pytest.raises(DeviceError, match=r"this process may map 0\.00 GiB \(`ulimit -v`\)"):
        exhaustion.check_room()


@pytest.mark.parametrize("into", [SystemExit(130), RuntimeError("in a callback"), ValueError("of a validator")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_that_a_library_makes_another_error_of_keeps_its_code(
    into: BaseException, number: int, code: int, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        try:
            raise Stopped(number)
        except KeyboardInterrupt as error:
            raise into from error

    monkeypatch.setattr("cnntrain.cli.app.app", stopped)
    outcome = cli("configs")
    assert outcome.code == code
    assert outcome.err == f"error: {Stopped(number)}\n"


SWALLOWED = """
import os, signal, time
from cnntrain.runtime import signals
signals._PATIENCE_SECONDS = 1
class Deaf:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
def bare():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    except BaseException:
        pass
with signals.StopSignals() as stop:
    {how}
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["Deaf()", "bare()"])
def test_a_signal_that_is_swallowed_ends_the_process_all_the_same(how: str) -> None:
    finished = python(SWALLOWED.format(how=how))
    assert (finished.returncode, finished.stderr) == (75, "error: stopped by SIGTERM\n")


def test_a_signal_after_the_end_changes_nothing() -> None:
    assert python(SWALLOWED.format(how="stop.end(); Deaf(); raise SystemExit(3)")).returncode == 3


TWICE = """
import os, signal, time
from cnntrain.runtime.signals import StopSignals
signal.signal(signal.SIGINT, {before})
try:
    with StopSignals(training=True) as stop, stop.later():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
except KeyboardInterrupt as error:
    print(type(error).__name__, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_a_second_interrupt_ends_the_command_at_once() -> None:
    finished = python(TWICE.format(before="lambda *_: None"))
    assert (finished.returncode, finished.stdout) == (130, "")
    assert finished.stderr.startswith("error: stopped at once, by a second signal")


@pytest.mark.parametrize(
    ("trained", "what"), [(False, "nothing was begun yet"), (True, "what was saved before is whole")]
)
def test_a_signal_while_something_is_imported_says_what_is_left(trained: bool, what: str, tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)")
    finished = python(f"""
import sys
from cnntrain.runtime.signals import StopSignals
sys.path.insert(0, {str(tmp_path)!r})
with StopSignals():
    if {trained}:
        with StopSignals(training=True):
            pass
    import slow_to_import
""")
    assert (finished.returncode, finished.stderr) == (75, f"error: stopped by SIGTERM; {what}\n")


def test_a_second_interrupt_ends_no_notebook_or_script_but_raises_at_once() -> None:
    finished = python(TWICE.format(before="signal.default_int_handler"))
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "KeyboardInterrupt True\n", "")


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGHUP", 75), ("SIGUSR1", 75)])
def test_signals_are_heard_before_anything_is_imported(number: str, code: int) -> None:
    heard = f"import os, signal; signal.signal(signal.{number}, signal.default_int_handler)"  # even under nohup
    kill = (
        f"{heard}; from cnntrain.__main__ import _listen_early; _listen_early(); os.kill(os.getpid(), signal.{number})"
    )
    finished = python(kill + "; import time; time.sleep(60)")
    how = "interrupted" if code == 130 else f"stopped by {number}"
    assert (finished.returncode, finished.stderr) == (code, f"error: {how}; nothing was begun yet\n")
