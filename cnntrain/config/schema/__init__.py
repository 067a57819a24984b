"""The configuration: every key, its type, its default and the rules between keys.

The docstrings and descriptions are what editors show (through `cnntrain schema`).
"""

from typing import Self

from cnntrain.config.schema.expect import Expect
from cnntrain.config.schema.run import Run
from cnntrain.config.section import Section
from cnntrain.data.options import Data
from cnntrain.models import Model
from cnntrain.training.recipe import Recipe

__all__ = ["Config", "Data", "Expect", "Recipe", "Run"]


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
