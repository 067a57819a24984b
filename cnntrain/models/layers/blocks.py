"""Blocks of layers: sums and branches, which may hold others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field, Strict
from torch import Tensor, nn

from cnntrain.errors import ConfigError
from cnntrain.models.layers.base import Arriving, Built, LayerOptions, Shape, build_layers, show

if TYPE_CHECKING:  # the table of all layers, which has these blocks too, completes them
    from cnntrain.models.layers import Layer, Layers


class Residual(LayerOptions):
    """The sum of what the layers make and what arrives (perhaps changed by the layers of `shortcut`)."""

    spoken: ClassVar = {"Residual": "residual"}
    main_key: ClassVar = "layers"

    name: Literal["residual"] = "residual"
    layers: "Layers"
    shortcut: "Layers | None" = None

    def build(self, arriving: Arriving) -> Built:
        key, inside = arriving.key, arriving._replace(at_end=False)
        layers, out = build_layers(self.layers, inside._replace(key=f"{key}.layers"))
        shortcut, around = build_layers(self.shortcut or (), inside._replace(key=f"{key}.shortcut"))
        if out != around:
            raise ConfigError(
                f"residual adds what its layers give, {show(out)}, to what comes around them, {show(around)}: these "
                f"must be alike; {_way_around(out, arriving.shape)}",
                key,
            )
        return Built(Sum(layers, shortcut), out)


class Sum(nn.Module):
    """What the layers make, plus what arrives or what the shortcut makes of it."""

    def __init__(self, layers: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers take -> the shape that both ways give."""
        out: Tensor = self.layers(x) + self.shortcut(x)
        return out


class Parallel(LayerOptions):
    """Branches side by side, whose maps are stacked, as in an inception module; an empty branch passes on."""

    spoken: ClassVar = {"Parallel": "parallel"}
    main_key: ClassVar = "branches"

    name: Literal["parallel"] = "parallel"
    branches: "Annotated[tuple[Annotated[tuple[Layer, ...], Strict(False)], ...], Strict(False), Field(min_length=2)]"

    def build(self, arriving: Arriving) -> Built:
        key = arriving.key
        built = [
            build_layers(branch, arriving._replace(key=f"{key}.branches.{number}", at_end=False))
            for number, branch in enumerate(self.branches)
        ]
        shapes = [out for _, out in built]
        if len({out[1:] for out in shapes}) > 1:
            raise ConfigError(
                f"parallel stacks the channels of its branches, whose height and width must be alike; they give "
                f"{', '.join(show(out) for out in shapes)}",
                key,
            )
        stacked = (sum(out[0] for out in shapes), *shapes[0][1:])
        return Built(Concatenation([branch for branch, _ in built]), stacked)


class Concatenation(nn.Module):
    """What the branches make of the same input, stacked along the first dimension of an example's shape."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the branches take -> their channels or features together."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def _way_around(out: Shape, arriving: Shape) -> str:
    """What to write so that a block's shortcut gives what its layers give."""
    if len(out) == len(arriving) == 3:
        strides = [-(-before // after) for before, after in zip(arriving[1:], out[1:], strict=True)]
        fits = all(
            (before - 1) // s + 1 == after for before, after, s in zip(arriving[1:], out[1:], strides, strict=True)
        )
        if fits and (strides != [1, 1] or out[0] != arriving[0]):
            stride = "" if strides == [1, 1] else f", stride: {strides[0] if len(set(strides)) == 1 else strides}"
            return f"give it `shortcut: [conv2d: {{out_channels: {out[0]}, kernel_size: 1{stride}}}]`"
        return "let its layers keep height and width, with `padding: same`"
    return "change its layers, or give it a shortcut"
