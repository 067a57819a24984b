"""The `run` section: this run, on this machine."""

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from cnntrain.config.section import Section

MAX_THREADS = 1024


def _check_name(name: str) -> str:
    if name in ("", ".", "..", "latest") or len(name) > 100 or not name.isprintable() or set(name) & set("/\\"):
        raise ValueError(
            f"{name[:40]!r} cannot name a folder of runs (allowed: up to 100 letters without slashes, not 'latest')"
        )
    return name


class Run(Section):
    """This run, on this machine."""

    seed: NonNegativeInt = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto", description="auto, cpu, cuda, cuda:N or mps"
    )
    threads: Annotated[int, Field(gt=0, le=MAX_THREADS)] | None = Field(
        None,
        description="that compute on a CPU; null: OMP_NUM_THREADS, else one for each core; the run's config.yaml has "
        "the number, and --resume keeps it",
    )
    output: str = Field("runs", description="folder of all runs")
    name: Annotated[str, AfterValidator(_check_name)] | None = Field(
        None, description="the run's folder in output; null: the configuration's file name"
    )
    data_root: str | None = Field(None, description="where data sets live; the flag --data-root sets it")
    compile: bool = Field(
        False, description="let torch.compile make the network's kernels (on a GPU as CUDA graphs): slower to start"
    )
    tensorboard: bool = True
    report: bool = Field(True, description="write report.html into the run folder at the end")
    log_every_steps: PositiveInt = Field(
        50,
        description="how often TensorBoard and signals.jsonl get loss, rate, gradient norms and update ratios; more "
        "often in the first steps",
    )
