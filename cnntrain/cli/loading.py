"""Which trained network a command uses."""

from pathlib import Path
from typing import TYPE_CHECKING

import cnntrain

if TYPE_CHECKING:
    from cnntrain.trained import Trained


def load_chosen(run: str | None, output: Path, device: str | None) -> "Trained":
    """The network that is meant by the options `RunArgument` (or `RunOption`), `OutputOption` and `DeviceOption`."""
    return cnntrain.load(run, device=device or "auto", output=output)


def described(checkpoint: Path) -> str:
    """How a checkpoint is named in what commands say."""
    from cnntrain.runs.run_folder import unfinished

    return f"{checkpoint}{unfinished(checkpoint)}"
