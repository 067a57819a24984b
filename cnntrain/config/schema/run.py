"""The `run` section: this run, on this machine."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from cnntrain.config.schema.base import Section


class Run(Section):
    """This run, on this machine."""

    seed: NonNegativeInt = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto", description="auto, cpu, cuda, cuda:N or mps"
    )
    output: str = Field("runs", description="folder of all runs")
    name: Annotated[str, Field(pattern=r"^[^/\\\x00]*[^/\\\x00.][^/\\\x00]*$")] | None = Field(
        None, description="a folder's name (no slashes), for the runs in output; null: the configuration's file name"
    )
    data_root: str | None = Field(None, description="where data sets live; the flag --data-root sets it")
    tensorboard: bool = True
    log_every_steps: PositiveInt = Field(50, description="how often TensorBoard gets loss, rate and gradient norms")
