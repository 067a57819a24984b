"""The commands that show what there is: configurations, their schema."""

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.app import command


@command
def configs() -> None:
    """List the shipped configurations."""
    from cnntrain.config.shipped import first_line, shipped_configs

    for name, path in shipped_configs().items():
        print(f"{name:<24}{first_line(path)}")


@command
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped configuration (see `cnntrain configs`).")],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; NAME.yaml by default.")] = None,
) -> None:
    """Copy a shipped configuration to start from, with the schema for editors beside it.

    Examples:
        cnntrain init cifar10_lenet my.yaml
    """
    from cnntrain.config.shipped import copy_config

    written = copy_config(name, file)
    for path in written:
        print(f"wrote {path}")
    print(f"try it: cnntrain check {written[0]}")


@command
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors that complete and check YAML."""
    from cnntrain.config import json_schema

    print(json_schema(), end="")
