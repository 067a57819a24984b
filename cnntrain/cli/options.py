"""Arguments and options that several commands share."""

import json
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
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as recipe.epochs=5.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Where data sets live.  [default: CNNTRAIN_DATA, else a cache folder]")
]
NewRunOutputOption = Annotated[Path | None, typer.Option(help="Folder of all runs.  [default: runs]")]
NameOption = Annotated[str | None, typer.Option(help="Of the run: its folder is OUTPUT/NAME/TIME.")]
SeedOption = Annotated[int | None, typer.Option(help="Of weights, order, augmentation and dropout.")]
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training images.")]
BatchSizeOption = Annotated[int | None, typer.Option(help="Images in a batch.")]
LearningRateOption = Annotated[float | None, typer.Option("--lr", help="The learning rate, at its highest.")]
WorkersOption = Annotated[int | None, typer.Option(help="Threads that decode images.")]
OutputOption = Annotated[Path, typer.Option(help="Folder of all runs.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout and nothing else.")]

_KEYS = {
    "device": "run.device",
    "data_root": "run.data_root",
    "output": "run.output",
    "name": "run.name",
    "seed": "run.seed",
    "epochs": "recipe.epochs",
    "batch_size": "recipe.batch_size",
    "lr": "recipe.optimizer.lr",
    "workers": "data.num_workers",
}


def assignments(**flags: Any) -> list[tuple[str, str]]:
    """Flags as assignments to configuration keys, each with how to name it in messages."""
    return [
        (
            f"{_KEYS[flag]}={json.dumps(value if isinstance(value, (int, float)) else str(value), ensure_ascii=False)}",
            f"--{flag.replace('_', '-')} {value}",
        )
        for flag, value in flags.items()
        if value is not None
    ]
