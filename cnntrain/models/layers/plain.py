"""Layers without windows: linear layers, and what stands between layers."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from cnntrain.errors import ConfigError
from cnntrain.models.layers.activations import Activation, activated, check_softmax
from cnntrain.models.layers.base import Arriving, Built, LayerOptions, Size, show

# By the dimensions of what arrives: a row of values, or channels with so many sides.
_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}


class Flatten(LayerOptions):
    """Maps to a row of values."""

    spoken: ClassVar = {"Flatten": "flatten"}

    name: Literal["flatten"] = "flatten"

    def build(self, arriving: Arriving) -> Built:
        return Built(nn.Flatten(), (math.prod(arriving.shape),))


class Linear(LayerOptions):
    """A fully connected layer."""

    spoken: ClassVar = {"Dense": "linear", "Linear": "linear"}
    main_key: ClassVar = "out_features"
    spoken_keys: ClassVar = {"units": "out_features"}

    name: Literal["linear"] = "linear"
    out_features: Size | None = Field(None, description="null: one per class")
    bias: bool = True
    activation: Activation | Literal["softmax"] | None = Field(
        None, description="what follows, instead of a layer of its own; softmax at the very end"
    )

    def build(self, arriving: Arriving) -> Built:
        activation = self.activation
        if activation == "softmax":
            check_softmax(arriving)
            activation = None
        if len(arriving.shape) != 1:
            shown = show(arriving.shape)
            raise ConfigError(f"linear takes a row of values, and {shown} arrives; put flatten before it", arriving.key)
        out_features = self.out_features or arriving.num_outputs
        linear = nn.Linear(arriving.shape[0], out_features, bias=self.bias)
        return Built(activated(linear, activation), (out_features,))


class Dropout(LayerOptions):
    """Sets values to zero at random while training."""

    spoken: ClassVar = {"Dropout": "dropout"}
    main_key: ClassVar = "probability"
    spoken_keys: ClassVar = {"rate": "probability", "p": "probability"}

    name: Literal["dropout"] = "dropout"
    probability: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def build(self, arriving: Arriving) -> Built:
        return Built(nn.Dropout(self.probability), arriving.shape)


class BatchNorm(LayerOptions):
    """Batch norm over each map (2d) or each value of a row (1d); batch_norm takes what arrives."""

    spoken: ClassVar = {
        "BatchNormalization": "batch_norm",
        "BatchNorm1d": "batch_norm1d",
        "BatchNorm2d": "batch_norm2d",
    }

    name: Literal["batch_norm2d", "batch_norm1d", "batch_norm"] = "batch_norm2d"

    def build(self, arriving: Arriving) -> Built:
        shape = arriving.shape
        norm = _BATCH_NORMS[len(shape)]
        other = f"batch_norm{norm.__name__[-2:]}"
        if self.name not in ("batch_norm", other):
            raise ConfigError(f"{self.name} does not take {show(shape)}, which arrives here; use {other}", arriving.key)
        return Built(norm(shape[0]), shape)
