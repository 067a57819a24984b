"""`cnntrain runs`, and what the shell completes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

from cnntrain.runs.run_folder import in_use

ROOT = Path(__file__).parent.parent


@pytest.fixture
def runs(trained_run: Path, tmp_path: Path) -> Path:
    """Copies of a finished run: one whole, one stopped, one that left nothing, one damaged; the last one is newest."""
    output = tmp_path / "runs"
    for second, remove in enumerate([(), ("results.json",), ("results.json", "checkpoints"), ()]):
        folder = output / "my" / f"20260131-12000{second}"
        shutil.copytree(trained_run, folder)
        for name in remove:
            shutil.rmtree(folder / name) if name == "checkpoints" else (folder / name).unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], lines[1][:20]]))
    return output


def test_runs_have_their_state_epochs_and_results(cli: Cli, runs: Path, trained_run: Path) -> None:
    found = json.loads(cli("runs", runs, "--json").out)
    assert [Path(run["run"]).name for run in found] == [f"20260131-12000{second}" for second in range(4)]
    assert [run["state"] for run in found] == ["finished", "stopped", "failed", "damaged"]
    assert [run["newest"] for run in found] == [False, False, False, True]
    results = json.loads((trained_run / "results.json").read_text())
    finished, stopped, _, damaged = found
    assert finished["test_accuracy"] == results["test"]["accuracy"]
    assert finished["val_accuracy"] == stopped["val_accuracy"] == results["val"]["accuracy"]
    assert stopped["test_accuracy"] is None
    assert (finished["epochs_done"], finished["epochs"]) == (3, 3)
    assert (finished["network"], finished["data"]) == ("lenet5", "digits")
    assert [Path(path).name for path in damaged["damaged"]] == ["metrics.jsonl"]


def test_runs_are_a_table_with_the_newest_marked(cli: Cli, runs: Path) -> None:
    head, *lines = cli("runs", runs).out.splitlines()
    assert head.split() == ["run", "state", "epochs", "val", "test", "network", "data"]
    assert [line.startswith("* ") for line in lines[:4]] == [False, False, False, True]
    assert lines[4] == f"damaged: {runs / 'my/20260131-120003/metrics.jsonl'}"


def test_a_run_that_is_being_trained_is_in_progress(cli: Cli, runs: Path) -> None:
    pytest.importorskip("fcntl")
    with in_use(runs / "my/20260131-120001"):
        assert json.loads(cli("runs", runs, "--json").out)[1]["state"] == "in progress"


@pytest.mark.parametrize("name", ["config.yaml", "results.json", "metrics.jsonl"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe", b'{"recipe": 3, "val": [], "test": {"accuracy": "x"}}', b"[" * 9999]
)
def test_no_damaged_record_stops_the_list(cli: Cli, runs: Path, name: str, content: bytes) -> None:
    (runs / "my/20260131-120000" / name).write_bytes(content)
    outcome = cli("runs", runs, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(json.loads(outcome.out)) == 4


def test_no_runs_yet_is_no_error(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("runs").out == "no runs in runs; `cnntrain train CONFIG` makes one\n"
    assert json.loads(cli("runs", "--json").out) == []


def complete(words: str, cwd: Path) -> list[str]:
    """What bash is offered for the last of these words, by the functions that `--show-completion bash` defines."""
    command = cwd / "bin/cnntrain"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cnntrain "$@"\n')
    command.chmod(0o755)
    script = f"""
eval "$(cnntrain --show-completion bash)"
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_cnntrain_completion cnntrain; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    arguments = ["bash", "-c", script]
    finished = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return finished.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cnntrain tr", ["train"]),
        ("cnntrain data ''", ["check", "preview"]),
        ("cnntrain help expl", ["explain"]),
        ("cnntrain train --batch", ["--batch-size"]),
        ("cnntrain train dig", ["digits_lenet"]),
        ("cnntrain check my", ["my.yaml"]),
        ("cnntrain data check ph", ["photos/"]),
        ("cnntrain init image_folder_t", ["image_folder_transfer"]),
        ("cnntrain evaluate ru", ["runs/my/20260131-120001", "runs/my/20260131-120000"]),
        ("cnntrain predict x.png --run runs/my/20260131-120000", ["runs/my/20260131-120000"]),
    ],
)
def test_the_shell_completes_commands_options_configurations_and_runs(
    words: str, offered: list[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").touch()
    (tmp_path / "photos").mkdir()
    for second in range(2):
        (tmp_path / f"runs/my/20260131-12000{second}/checkpoints").mkdir(parents=True)
        (tmp_path / f"runs/my/20260131-12000{second}/config.yaml").touch()
    assert complete(words, tmp_path) == offered


@pytest.mark.parametrize(
    ("shell", "sign"),
    [("bash", "complete -o default"), ("zsh", "#compdef cnntrain"), ("fish", "complete --command cnntrain")],
)
def test_completion_is_shown_for_each_shell(shell: str, sign: str, cli: Cli) -> None:
    assert sign in cli("--show-completion", shell).out


def test_completing_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys\nfrom cnntrain.cli.completing import complete_config, complete_run\ncomplete_config('d'), complete_run('')\n"
    code += "print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "set()\n"


@pytest.mark.parametrize("command", [("evaluate",), ("report",), ("train", "digits_lenet", "--resume")])
@pytest.mark.parametrize("asked", ["{runs}/mi", "{runs}/my/20260131-12000", "my/2026131-120000"])
def test_a_run_that_is_misspelt_is_answered_with_the_one_that_is_meant(
    cli: Cli, runs: Path, command: tuple[str, ...], asked: str
) -> None:
    outcome = cli(*command, asked.format(runs=runs), "--output", runs)
    assert outcome.code == 4
    assert f"did you mean {runs}/my" in outcome.err
