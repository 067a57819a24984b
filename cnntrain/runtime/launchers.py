"""What a launcher has started: this command several times, and which of them this process is."""

import os
import re
import time
from typing import NamedTuple, NoReturn

from cnntrain.errors import ConfigError, OtherProcessError

OWN_NAME = "cnntrain --processes"  # by which torchrun's agent knows what it was started for
STARTED_BY = "CNNTRAIN_STARTED_BY"  # a variable: the number of the process with that agent
_PATIENCE = 1.0  # seconds; a launcher stops all processes as soon as one of them ends, and the first is to say why
_FIRST_PORT, _NUM_PORTS = 20_000, 11_000  # below those that Linux gives to whoever asks for any


class Launcher(NamedTuple):
    """What a launcher tells each process, by the names of environment variables."""

    name: str
    size: str
    rank: str
    local_rank: str = ""


# (SLURM_NTASKS is also set in a batch job, where only one process runs; SLURM_STEP_NUM_TASKS is srun's own.)
_LAUNCHERS = (
    Launcher("torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK"),
    Launcher("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    Launcher("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    Launcher("mpirun", "PMI_SIZE", "PMI_RANK"),
    Launcher("mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
)


class Launched(NamedTuple):
    """What a launcher has started: `num_processes`, of which this is number `rank`, from 0.

    Attributes:
        launcher: Its name.
        variable: The environment variable that says how many there are.
        num_processes: On all machines.
        rank: Of this process, from 0.
        local_rank: Its number on this machine, from 0.
    """

    launcher: str
    variable: str
    num_processes: int
    rank: int
    local_rank: int = 0

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port at which the processes meet: torchrun's, or for srun the first host of the job.

        Raises:
            ConfigError: Nobody says where that is.
        """
        host, port = os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT")
        if self.launcher == "srun":
            host = host or first_host(os.environ.get("SLURM_STEP_NODELIST", ""))
            port = port or _FIRST_PORT + _number("SLURM_JOB_ID") * 31 % _NUM_PORTS + _number("SLURM_STEP_ID") % 1000
        if not host or not port:
            raise ConfigError(
                f"{self.launcher} started {self.num_processes} processes ({self.variable}), and nothing says where "
                f"they meet: set MASTER_ADDR to the first one's host and MASTER_PORT to a free port, or start them "
                f"with torchrun"
            )
        return host, port


def launched() -> Launched | None:
    """How often this command was started at once; None where it is one process."""
    for name, size, rank, local_rank in _LAUNCHERS:
        if (count := _number(size)) > 1:
            return Launched(name, size, count, _number(rank), _number(local_rank))
    return None


def speaks() -> bool:
    """Whether this process is the only one, or the first of several: what all have to say is said by that one."""
    launch = launched()
    return launch is None or launch.rank == 0


def who_speaks(error: BaseException) -> str | None:
    """Which process an error is to be told of, in words; None where another process tells it.

    What goes wrong before processes have met does so in all of them alike. They give the first one time to say it; on
    other machines, where the launcher does not end them meanwhile, it may be another mistake, and one says it.
    """
    launch = launched()
    if isinstance(error, OtherProcessError):
        return None if error.is_quiet else ""
    if launch is None or launch.rank == 0:
        return ""
    if not is_started_here():  # by which nobody is stopped before all had time
        time.sleep(_PATIENCE * (1 + (launch.local_rank > 0)))
    return None if launch.local_rank > 0 else f"process {launch.rank} of {launch.num_processes}: "


def environment_alone() -> dict[str, str]:
    """The variables of this process, without those that say how many there are."""
    sizes = {launcher.size for launcher in _LAUNCHERS}
    return {name: value for name, value in os.environ.items() if name not in sizes}


def is_started_here() -> bool:
    """Whether `--processes` has started this process, on this machine."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == OWN_NAME


def is_abandoned() -> bool:
    """Whether `--processes` has started this process, and that command has ended."""
    return is_started_here() and str(os.getppid()) != os.environ.get(STARTED_BY)


def first_host(hosts: str) -> str:
    """The first of SLURM's list of hosts: `node[03-05,7],other` -> `node03`."""
    match = re.match(r"([^,\[]+)(?:\[([0-9]+)[^]]*\]([^,\[]*))?", hosts)
    return "".join(part or "" for part in match.groups()) if match else ""


def refuse_several_processes() -> None:
    """For commands that write, and that several processes cannot share.

    Raises:
        ConfigError: There are several, and this is the first. The others end quietly, with the same exit code.
    """
    _refuse(
        "and each would do the same (train, evaluate, predict, bench and reproduce share their work); start it once, "
        "without {launcher} or with one process, or unset {variable} where this is the only one"
    )


def refuse_more_processes() -> None:
    """For what starts several processes itself.

    Raises:
        ConfigError: As `refuse_several_processes`.
    """
    _refuse("and --processes would have each of them start more; leave out one of the two")


def refuse_copies() -> None:
    """For `cnntrain.events`, whose events are one process's.

    Raises:
        ConfigError: As `refuse_several_processes`.
    """
    _refuse(
        "and cnntrain.events would train the whole in each of them, apart; cnntrain.train trains on all together (for "
        "trainings of their own unset {variable})"
    )


def _refuse(why: str) -> None:
    launch = launched()
    if launch is None:
        return
    if launch.rank > 0:
        _end_quietly()
    raise ConfigError(
        f"{launch.launcher} started this command {launch.num_processes} times ({launch.variable}="
        f"{launch.num_processes}), {why.format_map(launch._asdict())}"
    )


def _end_quietly() -> NoReturn:
    time.sleep(_PATIENCE)
    raise SystemExit(ConfigError.exit_code)


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
