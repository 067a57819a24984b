"""How the scripts start and end, and where they run: which Python, which machine, which commit."""

# The Python that starts a script may be older than the one that trains.
from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def enter_environment(modules: Sequence[str], setup: str) -> None:
    """Goes on only where these modules are installed: in this Python, else in that of .venv, with this checkout's code.

    Args:
        modules: Names of modules that the script imports later.
        setup: The command that installs them, for the message.

    Raises:
        SystemExit: With 2, after saying what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    inside = Path(sys.prefix).resolve() == PYTHON.parent.parent.resolve()
    if missing and PYTHON.exists() and not inside:
        os.execv(PYTHON, [str(PYTHON), *sys.argv])  # noqa: S606 - this very script again, in the other Python
    if missing:
        print(f"error: not installed: {', '.join(missing)}; run `{setup}`, then start this again", file=sys.stderr)
        raise SystemExit(2)
    sys.path.insert(0, str(ROOT))


def run_script(main: Callable[[], int], interrupted: str = "interrupted") -> NoReturn:
    """Ends the process with what `main` returns; what a user can put right is one message on stderr.

    Args:
        main: The script.
        interrupted: What to say after Ctrl-C, which exits with 130.

    Raises:
        SystemExit: Always; with cnntrain's exit codes where one of its errors was raised.
    """
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        error, code = interrupted, 130
    except subprocess.CalledProcessError as failed:
        said = (failed.stderr or "").strip().removeprefix("error: ")
        command = " ".join(map(str, failed.cmd))
        error, code = f"{said}\nfailed with exit code {failed.returncode}: {command}".strip(), failed.returncode
    except OSError as failed:
        error, code = str(failed), 7
    except Exception as failed:  # cnntrain's own errors cannot be imported here, but carry their code
        if not hasattr(failed, "exit_code"):
            raise
        error, code = str(failed), failed.exit_code
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def at_least(minimum: int) -> Callable[[str], int]:
    """For argparse: a whole number that is no smaller."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return number

    return read


def output_file(text: str) -> Path:
    """For argparse: a file that can be written, which should be known before hours of measuring."""
    path = Path(text)
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def machine(device: str) -> str:
    """The GPU's name, or the processor and its cores."""
    if not device.startswith(("cpu", "mps")):
        return device
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores" + (" and its GPU" if device.startswith("mps") else "")


def git_commit() -> str:
    """The commit that is measured, with `+changes` where files differ from it."""
    # What scripts/reproduce writes is no change of what it measures.
    status = ["git", "status", "--porcelain", "--", ".", ":!docs/results.json", ":!docs/reliability.md", ":!README.md"]
    try:
        commit, changes = (
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["git", "rev-parse", "--short", "HEAD"], status)
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")
