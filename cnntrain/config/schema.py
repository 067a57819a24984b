"""The configuration: every key, its type, its default and the rules between keys.

The docstrings and descriptions are what editors show (through `cnntrain schema`).
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, Strict, model_validator

from cnntrain.config.section import Fraction, Section, check_ascending
from cnntrain.data.options import Data
from cnntrain.models import Model
from cnntrain.training.recipe import Recipe

__all__ = ["Config", "Data", "Expect", "Recipe", "Run"]

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


Band = Annotated[tuple[Fraction, Fraction], Strict(False)]


class Expect(Section):
    """What one run with any seed should reach; `cnntrain reproduce` checks it, training does not look at it."""

    accuracy: Band = Field(description="[low, high] of the test accuracy, as fractions; both ends are inside")
    top5_accuracy: Band | None = Field(None, description="the same, for the truth among the five likeliest classes")
    basis: Literal["measured", "published"] = Field(description="Where the band comes from: own runs, or a paper.")
    note: str | None = Field(None, description="One sentence, such as on which form of the data it was measured.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_ascending(self.accuracy, "accuracy")
        if self.top5_accuracy:
            check_ascending(self.top5_accuracy, "top5_accuracy")
        return self


class Config(Section):
    """A cnntrain configuration."""

    model: Model
    data: Data
    recipe: Recipe = Recipe()
    run: Run = Run()
    expect: Expect | None = None

    def pinned(
        self, precision: str, micro_batch: int | None, weights: str | None, data: dict[str, int], **run: str | int
    ) -> Self:
        """The same with what was left open resolved, so that the file in the run folder repeats the run."""
        sections = {
            "model": self.model.model_copy(update={"weights": weights}),
            "data": self.data.model_copy(update=data),
            "recipe": self.recipe.model_copy(update={"precision": precision, "micro_batch": micro_batch}),
            "run": self.run.model_copy(update=run),
        }
        return self.model_copy(update=sections)

    def without_shards(self) -> Self:
        """The same, whose batches are not cut into shards."""
        return self.model_copy(update={"recipe": self.recipe.model_copy(update={"shards": None})})
