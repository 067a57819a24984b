"""The set-up script, with stand-ins for Python, so that nothing is installed."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts need, at a path with a space, and an empty PATH for Pythons."""
    root = tmp_path / "a checkout"
    shutil.copytree(SCRIPTS, root / "scripts")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "bin").mkdir()
    for tool in ("bash", "dirname", "cksum", "cat", "rm", "mkdir"):
        (root / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return root


def fake_python(path: Path, *, new_enough: bool) -> None:
    """A stand-in that says its version, makes an environment with itself in it, and writes down what pip was asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""#!{shutil.which("bash")}
case "$1 $2" in
  "-c "*) exit {0 if new_enough else 1} ;;
  "--version "*) echo "Python {"3.12.1" if new_enough else "3.9.2"}" ;;
  "-m venv") mkdir -p "$3/bin"; cat "$0" > "$3/bin/python"; {shutil.which("chmod")} +x "$3/bin/python" ;;
  "-m pip") echo "$@" >> "$PIP_LOG" ;;
esac
"""
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_setup(root: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(shutil.which("bash")), str(root / "scripts" / "setup"), *arguments],
        cwd=cwd,
        env={"PATH": str(root / "bin"), "PIP_LOG": str(root / "pip.log"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_explained(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=False)
    finished = run_setup(checkout, cwd=tmp_path)
    assert finished.returncode == 2
    assert "no Python 3.11 or newer found (python3 is Python 3.9.2)" in finished.stderr
    assert not (checkout / ".venv").exists()


def test_no_python_at_all_is_explained(checkout: Path, tmp_path: Path) -> None:
    finished = run_setup(checkout, cwd=tmp_path)
    assert finished.returncode == 2
    assert "no Python 3.11 or newer found" in finished.stderr


def test_a_newer_python_beside_an_old_one_is_found(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=False)
    fake_python(checkout / "bin" / "python3.12", new_enough=True)
    assert run_setup(checkout, cwd=tmp_path).returncode == 0
    assert (checkout / ".venv" / "bin" / "python").exists()


def test_the_environment_is_reused_until_something_changes(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=True)

    def installs(*arguments: str) -> int:
        finished = run_setup(checkout, *arguments, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        return len((checkout / "pip.log").read_text().splitlines())

    assert installs() == 1
    assert installs() == 1
    assert installs("test") == 2
    assert installs() == 2  # what the tests installed is enough for the quickstart
    (checkout / "pyproject.toml").write_text("[project]\n# changed\n")
    assert installs() == 3
    assert f"-e {checkout}" in (checkout / "pip.log").read_text()


def test_an_environment_of_an_old_python_is_explained(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / ".venv" / "bin" / "python", new_enough=False)
    finished = run_setup(checkout, cwd=tmp_path)
    assert finished.returncode == 2
    assert "Remove that folder and try again" in finished.stderr


def test_scripts_are_executable() -> None:
    for script in SCRIPTS.iterdir():
        assert script.suffix or os.access(script, os.X_OK), script
