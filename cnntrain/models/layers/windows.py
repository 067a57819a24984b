"""Windows that slide over maps: how their sizes are written, and how many fit."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from cnntrain.errors import ConfigError
from cnntrain.models.layers.base import Arriving, Shape, show

MAX_SIDE = 65_536  # of kernels, strides, paddings


def _pair(smallest: int, *words: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """One whole number for both directions, or two: height and width; or one of the words."""

    def check(value: Any) -> Any:
        pair = (value, value) if type(value) is int else value
        if pair == "valid" and words:  # as Keras has it
            return (0, 0)
        if pair in words:
            return pair
        whole = isinstance(pair, list | tuple) and all(
            type(side) is int and smallest <= side <= MAX_SIDE for side in pair
        )
        if not whole or len(pair) != 2:
            allowed = f"a whole number from {smallest} to {MAX_SIDE}, or two of them for height and width"
            raise ValueError(f"must be {' or '.join([allowed, *words])} (got {value!r})")
        return tuple(pair)

    number = {"type": "integer", "minimum": smallest}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return BeforeValidator(check), WithJsonSchema({"anyOf": [number, pair, *({"const": word} for word in words)]})


Pair = Annotated[tuple[int, int], *_pair(1)]
Padding = Annotated[tuple[int, int], *_pair(0)]
SamePadding = Annotated[tuple[int, int] | Literal["same"], *_pair(0, "same")]


def maps(arriving: Arriving, name: str) -> Shape:
    """The shape (C, H, W) of the maps that arrive at a layer of this name.

    Raises:
        ConfigError: What arrives are no maps.
    """
    if len(arriving.shape) != 3:
        hint = "; put it before flatten" if len(arriving.shape) == 1 else ""
        raise ConfigError(
            f"{name} takes maps (height x width x channels), and {show(arriving.shape)} arrive{hint}", arriving.key
        )
    return arriving.shape


def count_windows(
    name: str, arriving: Arriving, kernel: Shape, *, stride: Shape, padding: Shape, ceil: bool = False
) -> list[int]:
    """How many windows fit in height and width.

    Args:
        name: Of the layer.
        arriving: Maps.
        kernel: Height and width of a window.
        stride: From one window to the next.
        padding: On each side.
        ceil: Whether the last window may reach beyond the edge.

    Raises:
        ConfigError: Not a single window fits.
    """
    padded = [side + 2 * p for side, p in zip(arriving.shape[1:], padding, strict=True)]
    if any(side < k for side, k in zip(padded, kernel, strict=True)):
        raise ConfigError(
            f"{name} needs at least {_by(kernel)} px with its padding of {_by(padding)}, and {show(arriving.shape)} "
            f"arrives; use a smaller kernel, more padding or fewer poolings before it",
            arriving.key,
        )
    counts = []
    for side, k, s, p in zip(padded, kernel, stride, padding, strict=True):
        count = (side - k + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= side - p:  # the last window must begin inside
            count -= 1
        counts.append(count)
    return counts


def _by(sides: Sequence[int]) -> str:
    return "x".join(str(side) for side in sides)
