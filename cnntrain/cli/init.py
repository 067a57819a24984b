"""`cnntrain init`: copies a shipped configuration."""

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.completing import complete_shipped
from cnntrain.cli.output import show


def init(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A shipped configuration (see `cnntrain configs`).", autocompletion=complete_shipped
        ),
    ],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; NAME.yaml by default.")] = None,
) -> None:
    """Copy a shipped configuration to start from, with the schema for editors beside it.

    Examples:
        cnntrain init cifar10_lenet my.yaml
    """
    from cnntrain.config.shipped import copy_config

    written = copy_config(name, file)
    for path in written:
        show(f"wrote {path}")
    show(f"try it: cnntrain check {written[0]}")
