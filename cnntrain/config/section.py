"""What the sections of the configuration share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, Strict

Fraction = Annotated[float, Field(ge=0, le=1)]
ProperFraction = Annotated[float, Field(gt=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]

# A YAML list is a tuple here, so that sections stay frozen; Strict(False) lets pydantic take a list for it.
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], Strict(False)]
ChannelValues = Annotated[tuple[NonNegativeFloat, ...], Strict(False)]
Betas = Annotated[tuple[ProperFraction, ProperFraction], Strict(False)]


class Section(BaseModel):
    """Frozen, strict (no "5" for 5) and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def check_ascending(bounds: tuple[float, float], key: str) -> None:
    """Raises ValueError where a range is written the wrong way round."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"{key} goes from small to large (got {list(bounds)})")
