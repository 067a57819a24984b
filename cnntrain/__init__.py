"""Train convolutional image classifiers from a YAML file, a notebook or a script.

    run = cnntrain.train("digits_lenet", epochs=5, set={"recipe.optimizer.lr": 0.1})
    run.results["test"]["accuracy"]
    run.trained.predict("digit.png")

    trained = cnntrain.load("runs/latest")
    for event in cnntrain.events("digits_lenet"): ...

What goes wrong raises a kind of `cnntrain.errors.CnntrainError`, with the text that the command line prints. PyTorch is
imported when something is asked for.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as type checkers know it; to import it from `typing` takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cnntrain import errors
    from cnntrain.config.loading import ConfigSource
    from cnntrain.runs.run import Run
    from cnntrain.ten_steps import Training
    from cnntrain.trained import Trained

    Settings = str | Sequence[str] | Mapping[str, Any] | None

__all__ = ["Run", "Trained", "__version__", "errors", "events", "load", "train"]

__version__ = "0.1.0"


def train(
    config: ConfigSource | None = None,
    *,
    set: Settings = None,
    device: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    name: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    workers: int | None = None,
    resume: bool | str | os.PathLike[str] | None = False,
    allow_changes: bool = False,
    report: bool | None = None,
    quiet: bool = False,
) -> Run:
    """Trains a network, as `cnntrain train` does: the ten steps, from data preparation to the final test.

    What is None stays as the configuration has it. Progress goes to stderr.

    Args:
        config: The name of a shipped configuration, a YAML file, plain values as such a file holds them, or a `Config`.
        set: Keys to override, such as `{"recipe.optimizer.lr": 0.1}` or `["recipe.optimizer.lr=0.1"]`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        data_root: Where data sets live.
        output: The folder of all runs, `runs` where nothing else is said.
        name: Of the run: its folder is `output/name/time`.
        seed: Of initial weights, order, augmentation and dropout.
        epochs: Passes over the training images.
        batch_size: Images in a batch.
        lr: The learning rate, at its highest.
        workers: Threads that decode images.
        resume: True goes on with the newest unfinished run of this configuration, or begins one; a run folder goes on
            with that run, with or without `config`.
        allow_changes: With `resume`: also with another configuration.
        report: Whether report.html is written at the end.
        quiet: Whether nothing is told on the way.

    Returns:
        The run. Where it was finished before, `already_finished` says why nothing was trained.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
        KeyboardInterrupt: Training was stopped; what was learnt is saved, and `resume` goes on with it.
    """
    from cnntrain.ten_steps import train as take_ten_steps

    flags = {
        "device": device, "data_root": data_root, "output": output, "name": name, "seed": seed, "epochs": epochs,
        "batch_size": batch_size, "lr": lr, "workers": workers,
    }  # fmt: skip
    return take_ten_steps(
        config, {"set": set, **flags}, resume=resume, allow_changes=allow_changes, report=report, quiet=quiet
    )


def events(
    config: ConfigSource,
    *,
    set: Settings = None,
    device: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    workers: int | None = None,
    quiet: bool = True,
) -> Training:
    """The training loop itself: yields `StepDone` after each step and `EpochDone` after each epoch; writes nothing.

    The weights are those of `train` after the same step. Who has seen enough stops looking; who goes on with the same
    object goes on with the training.

    Args:
        config: As `train` takes it; so are the others.
        set: Keys to override.
        device: Where to compute.
        data_root: Where data sets live.
        seed: Of initial weights, order, augmentation and dropout.
        epochs: Passes over the training images.
        batch_size: Images in a batch.
        lr: The learning rate, at its highest.
        workers: Threads that decode images.
        quiet: Whether nothing is told of setting up.

    Returns:
        An iterator over the events, with `state` (`state.network` and all else that changes), `splits` (what is
        trained and validated on) and `settings` (how).

    Raises:
        CnntrainError: As `train`; while it is iterated too, such as `NumericalError` where the loss is not finite.
        ConfigError: torchrun has started this script several times; `train` shares the work, this does not.
    """
    from cnntrain.ten_steps import events as take_steps

    flags = {
        "device": device, "data_root": data_root, "seed": seed, "epochs": epochs, "batch_size": batch_size, "lr": lr,
        "workers": workers,
    }  # fmt: skip
    return take_steps(config, {"set": set, **flags}, quiet=quiet)


def load(
    run: str | os.PathLike[str] | None = None, *, device: str = "auto", output: str | os.PathLike[str] = "runs"
) -> Trained:
    """Loads a trained network with its preprocessing and its task.

    Args:
        run: A run folder such as `runs/latest`, a checkpoint file, a folder of runs, or such a folder's name in
            `output`; None means the newest run.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        output: The folder of all runs.

    Raises:
        CheckpointError: There is none, or it is damaged.
        DeviceError: The device is not there.
    """
    from pathlib import Path

    from cnntrain.runs.run_folder import find_checkpoint
    from cnntrain.runtime.device import resolve_device
    from cnntrain.trained import load as load_checkpoint

    path = find_checkpoint(None if run is None else os.fspath(run), Path(output))
    return load_checkpoint(path, resolve_device(device))


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: the classes, and the module `errors`."""
    if name == "Run":
        from cnntrain.runs.run import Run

        return Run
    if name == "Trained":
        from cnntrain.trained import Trained

        return Trained
    if name == "errors":
        from importlib import import_module

        return import_module("cnntrain.errors")
    raise AttributeError(f"module 'cnntrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
