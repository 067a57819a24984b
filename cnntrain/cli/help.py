"""`cnntrain help`: shows what there is."""

from typing import Annotated

import typer

from cnntrain.cli.commands import app
from cnntrain.cli.completing import complete_command
from cnntrain.errors import ConfigError


def help(
    about: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]", help="Which one.", autocompletion=complete_command)
    ] = None,
) -> None:
    """Show what there is, or how a command is used.

    Examples:
        cnntrain help train
        cnntrain help data check
    """
    if unknown := [word for word in about or [] if word.startswith("-")]:
        raise ConfigError(f"{unknown[0]} is no command; cnntrain help COMMAND")
    app([*(about or []), "--help"], prog_name="cnntrain")
