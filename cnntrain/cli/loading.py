"""Which trained network a command uses."""

from pathlib import Path
from typing import TYPE_CHECKING

from cnntrain.runtime.processes import ALONE, Processes

if TYPE_CHECKING:
    from cnntrain.trained import Trained


def load_chosen(run: str | None, output: Path, device: str | None, processes: Processes = ALONE) -> "Trained":
    """The network that is meant by the options `RunArgument` (or `RunOption`), `OutputOption` and `DeviceOption`.

    Of several processes the first reads it, for all.
    """
    from cnntrain.runs.run_folder import find_checkpoint
    from cnntrain.runtime.device import resolve_device
    from cnntrain.trained import load, shared

    path = processes.first(lambda: find_checkpoint(run, output))
    where = resolve_device(device or "auto", processes)
    return shared(load(path, where) if processes.rank == 0 else None, processes, where)


def described(checkpoint: Path) -> str:
    """How a checkpoint is named in what commands say."""
    from cnntrain.runs.run_folder import unfinished

    return f"{checkpoint}{unfinished(checkpoint)}"
