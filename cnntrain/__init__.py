"""Train convolutional image classifiers from a YAML file, a notebook or a script.

    run = cnntrain.train("digits_lenet", epochs=5, set={"recipe.optimizer.lr": 0.1})
    run.results["test"]["accuracy"]
    run.trained.predict("digit.png")

    trained = cnntrain.load("runs/latest")
    for event in cnntrain.events("digits_lenet"): ...

What goes wrong raises a kind of `cnntrain.errors.CnntrainError`, with the text that the command line prints. PyTorch is
imported when something is asked for.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnntrain.config.loading import ConfigSource
    from cnntrain.runs.run import Run
    from cnntrain.ten_steps import Training
    from cnntrain.trained import Trained

__all__ = ["Run", "Trained", "__version__", "events", "load", "train"]

__version__ = "0.1.0"


def train(
    config: "ConfigSource | None" = None,
    *,
    set: Sequence[str] | Mapping[str, Any] | None = None,
    resume: bool | str | os.PathLike[str] = False,
    allow_changes: bool = False,
    report: bool | None = None,
    quiet: bool = False,
    **flags: Any,
) -> "Run":
    """Trains a network, as `cnntrain train` does: the ten steps, from data preparation to the final test.

    Args:
        config: The name of a shipped configuration, a YAML file, plain values as such a file holds them, or a `Config`.
        set: Keys to override, such as `{"recipe.optimizer.lr": 0.1}` or `["recipe.optimizer.lr=0.1"]`.
        resume: True goes on with the newest unfinished run of this configuration; a run folder with that run.
        allow_changes: With `resume`: also with another configuration.
        report: Whether report.html is written at the end; None leaves it to the configuration.
        quiet: Whether nothing is told on the way.
        flags: Those of the command: `device`, `data_root`, `output`, `name`, `seed`, `epochs`, `batch_size`, `lr`,
            `workers`.

    Returns:
        The run. Where it was finished before, `already_finished` says why nothing was trained.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
        KeyboardInterrupt: Training was stopped; what was learnt is saved, and `resume` goes on with it.
        TypeError: There is no such flag.
    """
    from cnntrain.ten_steps import train as take_ten_steps

    return take_ten_steps(
        config, {"set_": set, **flags}, resume=resume, allow_changes=allow_changes, report=report, quiet=quiet
    )


def events(
    config: "ConfigSource",
    *,
    set: Sequence[str] | Mapping[str, Any] | None = None,
    quiet: bool = True,
    **flags: Any,
) -> "Training":
    """The training loop itself: yields `StepDone` after each step and `EpochDone` after each epoch; writes nothing.

    What it gives has `state` (the network, the optimizer, ...), `splits` and `settings`, too. Who has seen enough stops
    looking.

    Args:
        config: As `train` takes it.
        set: As `train` takes it.
        quiet: Whether nothing is told of setting up.
        flags: As `train` takes them.

    Raises:
        CnntrainError: As `train`.
    """
    from cnntrain.ten_steps import events as take_steps

    return take_steps(config, {"set_": set, **flags}, quiet=quiet)


def load(
    run: str | os.PathLike[str] | None = None, *, device: str = "auto", output: str | os.PathLike[str] = "runs"
) -> "Trained":
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
    """The classes, imported when they are asked for."""
    if name == "Run":
        from cnntrain.runs.run import Run

        return Run
    if name == "Trained":
        from cnntrain.trained import Trained

        return Trained
    raise AttributeError(f"module 'cnntrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "Run", "Trained"])
