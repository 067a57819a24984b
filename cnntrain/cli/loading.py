"""Which trained network a command uses."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnntrain.trained import Trained


def load_chosen(run: str | None, output: Path, device: str | None) -> "Trained":
    """The network that is meant by the options `RunArgument` (or `RunOption`), `OutputOption` and `DeviceOption`."""
    from cnntrain.runs.run_folder import find_checkpoint
    from cnntrain.runtime.device import resolve_device
    from cnntrain.trained import load

    path = find_checkpoint(run, output)
    return load(path, resolve_device(device or "auto"))


def described(checkpoint: Path) -> str:
    """How a checkpoint is named in what commands say."""
    from cnntrain.runs.run_folder import unfinished

    return f"{checkpoint}{unfinished(checkpoint)}"
