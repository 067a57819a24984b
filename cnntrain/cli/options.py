"""Arguments and options that several commands share, alone or in bundles.

A command that takes a bundle, such as `config_options: ConfigOptions`, has an option for each of its fields.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cnntrain.cli.completing import complete_config, complete_run

_CONFIG = typer.Argument(
    metavar="CONFIG", help="A YAML file, or the name of a shipped one.", autocompletion=complete_config
)
ConfigArgument = Annotated[str, _CONFIG]
OptionalConfigArgument = Annotated[str | None, _CONFIG]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run folder or checkpoint file.", autocompletion=complete_run)
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", help="Run folder or checkpoint file; the newest run by default.", autocompletion=complete_run
    ),
]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Where data sets live.  [default: CNNTRAIN_DATA, else a cache folder]")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
SeedOption = Annotated[int | None, typer.Option(help="Of weights, order, augmentation and dropout.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as recipe.epochs=5.")
]
OutputOption = Annotated[Path, typer.Option(help="Folder of all runs.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout and nothing else.")]


@dataclass(frozen=True)
class ConfigOptions:
    """What a command takes that computes what a configuration says."""

    set_: SetOption = None
    device: DeviceOption = None
    data_root: DataRootOption = None


@dataclass(frozen=True)
class NewRunOptions:
    """What a command takes that makes a run."""

    output: Annotated[Path | None, typer.Option(help="Folder of all runs.  [default: runs]")] = None
    name: Annotated[str | None, typer.Option(help="Of the run: its folder is OUTPUT/NAME/TIME.")] = None
    seed: SeedOption = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None


@dataclass(frozen=True)
class StepOptions:
    """What a command takes that makes steps of training as the recipe says."""

    batch_size: Annotated[int | None, typer.Option(help="Images in a batch.")] = None
    lr: Annotated[float | None, typer.Option("--lr", help="The learning rate, at its highest.")] = None
    workers: Annotated[int | None, typer.Option(help="Threads that decode images.")] = None


def given(*bundles: ConfigOptions | NewRunOptions | StepOptions) -> dict[str, Any]:
    """The values of options by their names, as the functions of the library take them."""
    return {name.rstrip("_"): value for bundle in bundles for name, value in vars(bundle).items()}
