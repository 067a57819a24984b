"""Arguments and options that several commands share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped one.")]
OptionalConfigArgument = Annotated[
    str | None, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped one.")
]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder or checkpoint file.")]
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
}


def assignments(**flags: Any) -> list[tuple[str, str]]:
    """Flags as assignments to configuration keys, each with how to name it in messages."""
    return [
        (
            f"{_KEYS[flag]}={json.dumps(value if isinstance(value, int) else str(value), ensure_ascii=False)}",
            f"--{flag.replace('_', '-')} {value}",
        )
        for flag, value in flags.items()
        if value is not None
    ]
