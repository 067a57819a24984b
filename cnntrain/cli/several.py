"""The option --processes, which commands have whose work several processes share."""

import shlex
from dataclasses import dataclass
from typing import Annotated

import typer

from cnntrain.errors import ConfigError
from cnntrain.runtime.launchers import is_started_here, refuse_more_processes


@dataclass(frozen=True)
class ProcessesOptions:
    """What such a command takes."""

    processes: Annotated[
        str, typer.Option(metavar="N", help="How many processes share the work; auto: one for each GPU.")
    ] = "1"
    max_restarts: Annotated[
        int, typer.Option(min=0, help="How often --processes starts them anew when one of them was killed.")
    ] = 0


def done_by_several(options: ProcessesOptions) -> bool:
    """Lets several processes do what the command line says, if it says so.

    Returns:
        False where it is for this process to do.

    Raises:
        ConfigError: It is no number of processes, or a launcher has started several already.
        Exit: They have done it; with their exit code.
    """
    text = options.processes
    if is_started_here():
        return False
    if options.max_restarts and text == "1":
        raise ConfigError("--max-restarts goes with --processes: it says how often these are started anew")
    if text == "1":
        return False
    if text != "auto" and not (text.isascii() and text.isdecimal() and 0 < int(text[:5]) <= 1024):
        raise ConfigError(f"--processes {shlex.quote(text)} is no number of processes (allowed: 1 to 1024, auto)")
    refuse_more_processes()

    from cnntrain.runtime.launching import num_processes, start

    count = num_processes(text)
    if count > 1:
        raise typer.Exit(start(count, max_restarts=options.max_restarts))
    return False
