"""The `expect` section: the test accuracy that a configuration promises."""

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from cnntrain.config.section import Fraction, Section, check_ascending

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
