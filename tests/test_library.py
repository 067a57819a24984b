"""`import cnntrain`: what a notebook or a script does says and computes what the command line does."""

import json
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image

import cnntrain
from cnntrain import Run, Trained, errors, events, load, train
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.runs.console import Console
from cnntrain.runtime.signals import Stopped
from cnntrain.training.events import EpochDone, StepDone

SMALL: dict[str, Any] = {
    "model": "lenet5",
    "data": {"source": "digits"},
    "recipe": {"epochs": 2, "schedule": {"name": "one_cycle", "warmup_fraction": 0.1}},
    "run": {"report": False, "tensorboard": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(SMALL, output=tmp_path_factory.mktemp("library"), quiet=True)


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return run.trained.network.state_dict()


def assert_same_weights(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_importing_it_imports_nothing_that_takes_time() -> None:
    code = "import sys; before = set(sys.modules); import cnntrain; dir(cnntrain); print(*set(sys.modules) - before)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in names} & {"torch", "numpy", "pydantic", "yaml", "typer", "PIL", "tqdm"}
    assert len(names) < 40
    assert {"train", "events", "load", "Run", "Trained", "errors"} <= set(dir(cnntrain))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        cnntrain.trian  # type: ignore[attr-defined] # noqa: B018


def test_a_run_gives_all_that_its_folder_holds(run: Run, tmp_path: Path) -> None:
    assert run.results == json.loads((run.folder / "results.json").read_text())
    assert [line["epoch"] for line in run.history] == [1, 2]
    assert run.config.recipe.epochs == 2
    assert run.name == "lenet5"
    assert "test accuracy" in repr(run)
    assert isinstance(run.confusion, Image.Image)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    assert isinstance(run.explain(tmp_path / "black.png"), Image.Image)
    assert run.trained.predict(tmp_path / "black.png").class_name in "0123456789"
    with pytest.raises(ConfigError, match="no method"):
        run.explain(tmp_path / "black.png", method="magic")


def test_a_report_that_fails_leaves_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnntrain.reports.page.write_report", Mock(side_effect=CheckpointError("no room")))
    assert train(SMALL, epochs=1, report=True, output=tmp_path).results["test"]
    assert "its report is not written: no room; try again: cnntrain report" in capsys.readouterr().err


def test_curves_are_shown_by_a_notebook(run: Run) -> None:
    pytest.importorskip("matplotlib")
    assert run.curves._repr_html_().count("<svg") == len(run.curves) >= 3


def test_a_run_is_trained_as_the_command_trains_it(run: Run, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "lenet5.yaml"
    path.write_text(json.dumps(SMALL))
    assert cli("train", path, "--output", tmp_path / "runs", "--quiet").code == 0
    assert_same_weights(weights_of(Run(tmp_path / "runs/latest")), weights_of(run))


@pytest.mark.parametrize("kind", ["path", "text", "config", "flags"])
def test_whatever_says_what_to_train_the_run_is_the_same(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(SMALL))
    sources: dict[str, Any] = {"path": path, "text": str(path), "config": run.config}
    source = sources.get(kind, {**SMALL, "recipe": {}})
    schedule = SMALL["recipe"]["schedule"]
    flags: dict[str, Any] = {"epochs": np.int64(2), "set": {"recipe.schedule": schedule}} if kind == "flags" else {}
    other = train(source, output=tmp_path / "runs", quiet=True, **flags)
    assert_same_weights(weights_of(other), weights_of(run))


MISTAKES: list[dict[str, Any]] = [
    {"set": ["recipe.epoch=3"]},
    {"set": ["recipe.optimizer.lr=fast"]},
    {"set": ["recipe.optimizer=sdg"]},
    {"set": ["model=lenet"]},
    {"set": ["model.activation=relo"]},
    {"set": ["data.source=digitz"]},
    {"set": ["recipe.epochs"]},
    {"set": ["recipe.epochs.x=1"]},
    {"set": ["data.augment=[flip]"]},
    {"set": ["recipe.unfreeze={epoch: 2}"]},
    {"set": ["recipe.batch_size=0", "recipe.epochs=-1"]},
    {"set": "recipe.loss=none"},
    {"set": {"recipe.epochs": 2.5}},
    {"set": {"run.log_every_steps": [1]}},
    {"epochs": 0},
    {"lr": -1.0},
    {"batch_size": 0},
    {"workers": -1},
    {"device": "gpu"},
    {"device": "cuda:99"},
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_mistake_is_told_as_the_command_line_tells_it(mistake: dict[str, Any], cli: Cli, tmp_path: Path) -> None:
    mistake = dict(mistake)
    words: list[object] = []
    changes = mistake.get("set", ())
    if isinstance(changes, dict):
        changes = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    for change in [changes] if isinstance(changes, str) else changes:
        words += ["--set", change]
    for flag, value in mistake.items():
        words += [] if flag == "set" else [f"--{flag.replace('_', '-')}", value]
    told = cli("train", "digits_lenet", *words, "--quiet", "--output", tmp_path)
    with pytest.raises(errors.CnntrainError) as caught:
        train("digits_lenet", **mistake, quiet=True, output=tmp_path)
    assert told.err == f"error: {caught.value}\n"
    assert told.code == caught.value.exit_code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("digits_lenett", "did you mean the shipped 'digits_lenet'?"),
        ({}, "model: is missing"),
        ({**SMALL, "recipe": {"epoch": 3}}, "given in Python: recipe.epoch: unknown key; did you mean 'epochs'?"),
        ({**SMALL, "run": {"name": object()}}, "plain values alone"),
        ({**SMALL, "run": {"name": {1, 2}}}, "is not allowed: values are text"),
        (None, "say what to train"),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(source: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text.replace("?", r"\?")):
        train(source, quiet=True)


def test_values_that_are_not_plain_are_refused_or_understood(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set run\.name: must be a plain value"):
        train(SMALL, set={"run.name": object()})
    with pytest.raises(TypeError, match="a name, a path, a dict or a Config, not a int"):
        train(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="epoch"):
        train(SMALL, epoch=3)  # type: ignore[call-arg]
    training = events(
        {**SMALL, "run": {"data_root": tmp_path}},
        set={"recipe.optimizer.lr": np.float32(0.5)},
        epochs=np.int64(1),  # type: ignore[arg-type]
    )
    assert training.state.optimizer.defaults["lr"] == 0.5


def test_what_is_no_run_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no trained run in runs; train one first"):
        load()
    with pytest.raises(CheckpointError, match="no such run folder"):
        load("runs/latest")
    with pytest.raises(CheckpointError, match="no run folder, that is, one with"):
        Run(tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps(SMALL))
    (tmp_path / "checkpoints").mkdir()
    begun = Run(tmp_path)
    assert (begun.results, begun.history) == ({}, [])
    assert "not finished" in repr(begun)
    with pytest.raises(CheckpointError, match="holds no trained network yet"):
        begun.trained  # noqa: B018
    with pytest.raises(CheckpointError, match="no test results"):
        begun.confusion  # noqa: B018


def test_the_loop_takes_the_steps_that_training_takes(run: Run) -> None:
    training = events(SMALL)
    first = list(islice(training, 3))
    assert all(isinstance(event, StepDone) for event in first)
    assert training.state.step == 3
    assert repr(training).startswith("Training(step 3 of ")
    epochs = [event for event in training if isinstance(event, EpochDone)]
    assert [event.epoch for event in epochs] == [1, 2]
    assert list(training) == []
    assert epochs[-1].val["loss"] == run.history[-1]["val"]["loss"]
    assert_same_weights(training.state.kept.state_dict(), weights_of(run))  # the last epoch was the best
    assert len(training.splits.val) == run.results["val"]["num_images"]


def test_the_loop_stops_early_as_training_does(tmp_path: Path) -> None:
    settings = {"recipe.epochs": 20, "recipe.optimizer.lr": 0.3, "recipe.early_stopping": {"patience": 1}}
    run = train(SMALL, set=settings, output=tmp_path, quiet=True)
    epochs = [event for event in events(SMALL, set=settings) if isinstance(event, EpochDone)]
    assert len(epochs) == run.results["epochs_run"] < 20
    assert [event.val["loss"] for event in epochs] == [line["val"]["loss"] for line in run.history]


def test_interrupting_saves_says_how_to_go_on_and_puts_handlers_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def see(console: Console, number: int, *_: object) -> None:
        if number == 7:
            signal.raise_signal(signal.SIGINT)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(Console, "step", see)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(SMALL, output=tmp_path, quiet=True)
    monkeypatch.undo()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert isinstance(caught.value, Stopped)
    shown = caught.value._render_traceback_()
    assert shown[0] == "Stopped: interrupted"
    assert "go on with it: cnntrain train --resume" in shown[1]
    begun = Run(tmp_path / "latest")
    assert not begun.results
    whole = train(SMALL, output=tmp_path / "whole", quiet=True)
    resumed = train(SMALL, output=tmp_path, resume=True, quiet=True)
    assert resumed.folder == begun.folder
    assert_same_weights(weights_of(resumed), weights_of(whole))
    assert train(resume=resumed.folder, quiet=True).already_finished
    with pytest.raises(ConfigError, match="another configuration"):
        train(SMALL, lr=0.2, resume=resumed.folder, quiet=True)
    further = train(resume=resumed.folder, epochs=3, quiet=True)
    assert further.results["epochs_run"] == 3


def test_trainings_in_threads_are_those_of_the_main_thread(tmp_path: Path) -> None:
    layers = ["flatten", {"linear": 256}, "relu", {"dropout": 0.5}, "linear"]
    dropout = {**SMALL, "model": {"name": "sequential", "layers": layers}}
    done: dict[int, dict[str, Any]] = {}

    def take_steps(number: int) -> None:
        training = events(dropout)
        list(islice(training, 40))
        done[number] = training.state.network.state_dict()

    take_steps(0)
    threads = [threading.Thread(target=take_steps, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (1, 2):
        assert_same_weights(done[number], done[0])


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_settings_of_pytorch_are_put_back(tmp_path: Path) -> None:
    run = train(SMALL, set={"run.threads": 1, "recipe.epochs": 1}, output=tmp_path, quiet=True)
    assert torch.get_num_threads() == 2
    assert run.results["device"] == "cpu, 1 thread"
    assert run.trained.evaluate("val")["accuracy"] == run.results["val"]["accuracy"]
    assert torch.get_num_threads() == 2
    next(events(SMALL, set={"run.threads": 1}))
    assert torch.get_num_threads() == 2


@contextmanager
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("chosen", [in_float64, torch.no_grad, torch.inference_mode])
def test_what_the_caller_computes_in_changes_nothing(
    chosen: Callable[[], AbstractContextManager[Any]], tmp_path: Path
) -> None:
    image = Image.new("L", (8, 8), 90)
    usual = train(SMALL, epochs=1, output=tmp_path, quiet=True)
    usual_events = events(SMALL)
    list(islice(usual_events, 3))
    with chosen():
        run = train(SMALL, epochs=1, output=tmp_path, quiet=True)
        training = events(SMALL)
        list(islice(training, 3))
        trained = load(run.folder)
        prediction = trained.predict(image)
        evaluation = trained.evaluate()
        image.save(tmp_path / "image.png")
        run.explain(tmp_path / "image.png", class_name="3")
    assert_same_weights(trained.network.state_dict(), usual.trained.network.state_dict())
    assert_same_weights(training.state.network.state_dict(), usual_events.state.network.state_dict())
    assert prediction.ranked == usual.trained.predict(image).ranked
    assert evaluation["loss"] == usual.results["test"]["loss"]


def test_a_run_is_read_from_another_working_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    runs = [train(SMALL, epochs=1, output="runs", resume=None, quiet=True)]
    runs.append(Run(runs[0].folder))
    monkeypatch.chdir(tmp_path / "there")
    for run in runs:
        assert not run.folder.is_absolute()
        assert run.results["epochs_run"] == len(run.history) == run.config.recipe.epochs == 1
        assert run.trained.predict(Image.new("L", (8, 8))).class_name


def test_a_stop_can_be_told_to_another_process() -> None:
    stopped = pickle.loads(pickle.dumps(Stopped(signal.SIGTERM)))
    assert (str(stopped), stopped.exit_code) == ("stopped by SIGTERM", 75)


@pytest.mark.usefixtures("two_threads")
def test_predicting_leaves_alone_what_another_thread_sets_meanwhile(run: Run) -> None:
    def images() -> Iterator[Image.Image]:
        torch.set_num_threads(1)  # as a training in another thread does, whose sums would be others with two
        yield Image.new("L", (8, 8))

    assert len(run.trained.predict(images())) == 1
    assert torch.get_num_threads() == 1


def test_it_prints_nothing_on_stdout_and_nothing_at_all_when_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(SMALL, epochs=1, output=tmp_path, quiet=True)
    assert capfd.readouterr() == ("", "")
    train(SMALL, epochs=1, output=tmp_path)
    run.trained.evaluate()
    list(islice(events(SMALL), 1))
    out, err = capfd.readouterr()
    assert out == ""
    assert "10  testing" in err


def test_a_notebook_has_bars_though_its_stderr_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not Console().shows_bars
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setattr("cnntrain.runs.bars.find_spec", lambda _: None)  # without ipywidgets: as text
    console = Console()
    assert console.shows_bars
    assert not Console(quiet=True).shows_bars
    assert list(console.progress([1, 2], 2, "counting")) == [1, 2]
    console.say("a line")
    out, err = capsys.readouterr()
    assert out == ""
    assert "counting" in err
    assert "a line" in err


def test_all_of_it_is_typed(run: Run) -> None:
    """mypy checks this file; here is what types say."""
    results: dict[str, Any] = run.results
    trained: Trained = load(run.folder, device="cpu", output="elsewhere")
    network: torch.nn.Module = trained.network
    picture: Image.Image = run.confusion
    names: tuple[str, ...] | list[str] = trained.task.class_names
    assert (len(names), picture.size[0] > 0, network.training, bool(results)) == (10, True, False, True)
    assert "lenet5 of epoch" in repr(trained)


@pytest.mark.parametrize("values", [[1], b"a=1", [{"recipe.epochs": 1}]])
def test_what_is_set_is_a_text_or_a_value_by_key(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"--set: takes KEY=VALUE, such as recipe\.epochs=5, or values by key"):
        cnntrain.train("digits_lenet", set=values)
