"""The command line as a user meets it: a process of its own, pipes instead of a terminal."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SHORT, Cli

from cnntrain import __version__
from cnntrain.cli.commands import Commands, DataCommands
from cnntrain.config.shipped import shipped_configs

TEN_STEPS = (
    "data preparation", "model initialisation", "forward", "loss", "backward", "update", "iteration", "evaluation",
    "termination", "testing",
)  # fmt: skip


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cnntrain", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_train_evaluate_and_predict_as_processes(tmp_path: Path) -> None:
    train = run("train", "digits_lenet", *SHORT, "--seed", 1, "--name", "first", cwd=tmp_path)
    assert train.returncode == 0, train.stderr
    positions = [train.stderr.index(name) for name in TEN_STEPS]
    assert positions == sorted(positions)
    assert train.stdout.startswith("test accuracy ")
    assert "run folder runs/first/" in train.stdout
    results = json.loads((tmp_path / "runs/latest/results.json").read_text())
    assert results["seed"] == 1
    assert results["epochs_run"] == 3
    assert results["command"].startswith("cnntrain train digits_lenet --epochs 3 --set ")
    assert {"torchvision", "numpy", "pillow"} <= results["versions"].keys()
    assert results["processor"]

    evaluate = run("evaluate", "--json", cwd=tmp_path)
    assert json.loads(evaluate.stdout)["accuracy"] == results["test"]["accuracy"]

    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "black.png")
    predict = run("predict", "black.png", "--json", "--top", 2, cwd=tmp_path)
    assert [len(item["predictions"]) for item in json.loads(predict.stdout)] == [2]
    for finished in (train, evaluate, predict):
        assert "\x1b" not in finished.stdout + finished.stderr  # no colour
        assert "\r" not in finished.stderr  # no bars
        assert "Warning" not in finished.stderr


def test_a_broken_pipe_and_a_closed_stdin_are_no_disaster(trained_run: Path, tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m cnntrain evaluate '{trained_run}' < /dev/null | head -n 1"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert finished.stdout.startswith("images")
    assert "Traceback" not in finished.stderr


def test_a_full_disk_behind_stdout_is_explained(trained_run: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "cnntrain", "evaluate", str(trained_run), "--quiet"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert finished.returncode == 7
    assert finished.stderr == "error: the results cannot be written to stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGUSR1, 75)]
)
def test_signals_end_a_run_without_a_traceback(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [
        sys.executable,
        "-m",
        "cnntrain",
        "train",
        "digits_lenet",
        "--epochs",
        "10000",
        "--output",
        str(tmp_path / "runs"),
    ]

    def listen() -> None:  # a shell lets what it starts in the background ignore Ctrl-C
        signal.signal(number, signal.SIG_DFL)

    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, stdout=pipe, text=True, preexec_fn=listen) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch "):
                process.send_signal(number)
                break
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "Traceback" not in rest
    assert "what was learnt until then is kept: cnntrain evaluate" in rest
    assert "go on with it: cnntrain train --resume" in rest


def test_names_that_the_terminal_cannot_show_are_escaped(trained_run: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "ü.png")
    finished = run("predict", "ü.png", "--run", trained_run, cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert finished.returncode == 0, finished.stderr
    assert "\\xfc.png" in finished.stdout


def modules_after(*arguments: str) -> set[str]:
    """What a command has imported once it is done."""
    code = "import sys; from cnntrain.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["help", "data", "check"], ["data"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    heavy = {"torch", "numpy", "yaml", "PIL", "tqdm", "tensorboard"}
    assert not heavy & modules_after(*words)


def test_no_command_imports_pydantic_before_it_runs() -> None:
    assert "pydantic" not in modules_after("--help")  # which imports every command; typer's own parsing needs it


@pytest.mark.parametrize("words", [["lr-find"], ["data", "check"]])
def test_a_command_is_imported_when_it_is_called_and_no_other_is(words: list[str]) -> None:
    own = ".".join(["cnntrain.cli", *words]).replace("-", "_")
    every = {f"{group.package}.{name.replace('-', '_')}" for group in (Commands, DataCommands) for name in group.names}
    imported = modules_after(*words, "--help") & every
    assert imported - {"cnntrain.cli.data"} == {own}


@pytest.mark.parametrize("command", [[], ["train"], ["reproduce"], ["evaluate"], ["predict"], ["check"], ["init"]])
def test_help_has_examples_and_exit_codes(command: list[str], cli: Cli) -> None:
    text = cli(*command, "--help").out
    assert "Exit codes: 0 done" in text
    if command:
        assert "Examples:" in text
        assert f"cnntrain {command[0]} " in text


def test_version(cli: Cli) -> None:
    assert cli("-V").out == cli("--version").out == f"cnntrain {__version__}\n"


@pytest.mark.parametrize("words", [["train"], ["data"], ["data", "check"], []])
def test_help_of_a_command_is_what_its_own_help_says(words: list[str], cli: Cli) -> None:
    assert cli("help", *words) == cli(*words, "--help")


def test_without_tensorboard_nobody_is_sent_to_it(cli: Cli, tmp_path: Path) -> None:
    settings = [*SHORT, "--output", tmp_path, "--epochs", 1]
    assert "tensorboard --logdir" in cli("train", "digits_lenet", *settings).err
    assert "tensorboard --logdir" not in cli("train", "digits_lenet", *settings, "--set", "run.tensorboard=false").err


def test_quiet_says_nothing_but_the_result(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("train", "digits_lenet", "--epochs", 1, "--output", tmp_path, "--quiet")
    assert outcome.err == ""
    assert len(outcome.out.splitlines()) == 2


def test_check_reports_without_writing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("check", "digits_lenet", "--set", "recipe.batch_size=32")
    assert outcome.code == 0
    for expected in (
        "train 1,295, val 143, test 359",
        "(32, 1, 32, 32) -> logits (32, 10)",
        "61,706",
        "expected about 2.3026 (ln of the number of classes)",
        ": as it should be",
        "ready to train",
    ):
        assert expected in outcome.out
    assert "batch_size" not in outcome.out
    assert len(outcome.out.splitlines()) < 15
    whole = cli("check", "digits_lenet", "--batch-size", 16, "--lr", 0.25, "--workers", 3, "--show-config").out
    assert {"  batch_size: 16", "    lr: 0.25", "  num_workers: 3", "  image_size: 32"} <= set(whole.splitlines())
    assert whole.endswith(outcome.out.splitlines()[-1] + "\n")
    assert not list(tmp_path.iterdir())


def test_check_of_squared_error_expects_another_loss(cli: Cli) -> None:
    outcome = cli("check", "digits_lenet", "--set", "recipe.loss=squared_error")
    assert "expected about 0.9000 (1 - 1 / number of classes)" in outcome.out


def test_configs_lists_and_init_copies(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [line.split()[0] for line in cli("configs").out.splitlines()]
    assert names == list(shipped_configs())
    assert {
        "digits_lenet", "mnist_lenet", "fashion_mnist_lenet", "cifar10_lenet", "cifar10_resnet20", "image_folder_resnet18",
    } <= set(names)  # fmt: skip
    assert cli("init", "digits_lenet").out.splitlines() == [
        "wrote digits_lenet.yaml",
        "wrote cnntrain.schema.json",
        "try it: cnntrain check digits_lenet.yaml",
    ]
    assert cli("init", "digits_lenet", "my.yaml").code == 0
    shipped = shipped_configs()["digits_lenet"].read_text()
    assert Path("my.yaml").read_text() == shipped.replace("configs/digits_lenet.yaml", "my.yaml")
    Path("folder").mkdir()
    assert cli("init", "digits_lenet.yaml", "folder").out.startswith("wrote folder/digits_lenet.yaml")
    assert cli("check", "my.yaml").code == 0


def test_schema_is_json_schema(cli: Cli) -> None:
    schema = json.loads(cli("schema").out)
    assert set(schema["properties"]) == {"model", "data", "recipe", "run", "expect"}


def test_the_data_root_may_come_from_the_environment(cli: Cli, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNTRAIN_DATA", str(photos.parent))
    settings = ["data={source: image_folder, root: photos, image_size: 16}", "recipe.batch_size=8"]
    assignments = [part for setting in settings for part in ("--set", setting)]
    assert "train 27, val 3, test 6" in cli("check", "digits_lenet", *assignments).out


def test_one_own_photos_from_the_working_folder(cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(photos.parent)
    small = [
        "data.image_size=32",
        "data.stored_size=36",
        "model.stem=small",
        "recipe.epochs=2",
        "recipe.early_stopping=null",
    ]
    settings = [part for setting in small for part in ("--set", setting)]
    outcome = cli("train", "image_folder_resnet18", *settings)
    assert outcome.code == 0, outcome.err
    # the resolved configuration and evaluate find the photos from elsewhere
    monkeypatch.chdir("/")
    assert cli("evaluate", "--output", photos.parent / "runs").code == 0
