"""Whether a launcher has started this command more than once."""

import os
import time
from typing import NamedTuple, NoReturn

from cnntrain.errors import ConfigError

# What launchers tell each process: how many there are, and which it is. (SLURM_NTASKS is also set in a batch job, where
# only one process runs; SLURM_STEP_NUM_TASKS is srun's own.)
_LAUNCHERS = (
    ("torchrun", "WORLD_SIZE", "RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun", "PMI_SIZE", "PMI_RANK"),
    ("mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
)
_PATIENCE = 1.0  # seconds; a launcher stops all processes as soon as one of them ends, and the first is to say why


class Launched(NamedTuple):
    """What a launcher has started: `num_processes`, of which this is number `rank`, from 0."""

    launcher: str
    variable: str
    num_processes: int
    rank: int


def launched() -> Launched | None:
    """How often this command was started at once; None where it is one process."""
    for launcher, size, rank in _LAUNCHERS:
        if (count := _number(size)) > 1:
            return Launched(launcher, size, count, _number(rank))
    return None


def refuse_several_processes() -> None:
    """For commands that write: several processes would each do the same.

    Raises:
        ConfigError: There are several, and this is the first. The others end quietly, with the same exit code.
    """
    launch = launched()
    if launch is None:
        return
    if launch.rank > 0:
        _end_quietly()
    launcher, variable, number, _ = launch
    raise ConfigError(
        f"{launcher} started this command {number} times ({variable}={number}), and training by several processes is "
        f"not supported yet: each would do the same; start it once, without {launcher} or with one process, or unset "
        f"{variable} where this is the only one"
    )


def _end_quietly() -> NoReturn:
    time.sleep(_PATIENCE)
    raise SystemExit(ConfigError.exit_code)


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
