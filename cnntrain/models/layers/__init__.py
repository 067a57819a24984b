"""The list `model.layers` of a network written in YAML; each layer's options stand beside what builds it.

A layer may be called as in PyTorch or as in Keras, and its main value written alone: `Dropout: 0.25`, `Dense: 128`.
"""

from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field, Strict
from typing_extensions import TypeAliasType

from cnntrain.config.shorthand import Shorthand, choice_of
from cnntrain.models.layers.activations import Gelu, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from cnntrain.models.layers.base import LayerOptions
from cnntrain.models.layers.blocks import Parallel, Residual
from cnntrain.models.layers.plain import BatchNorm, Dropout, Flatten, Linear
from cnntrain.models.layers.windows import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Conv2d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    MaxPool2d,
)

LAYERS: tuple[type[LayerOptions], ...] = (
    Conv2d,
    MaxPool2d,
    AvgPool2d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Flatten,
    Linear,
    Dropout,
    BatchNorm,
    Relu,
    Tanh,
    Sigmoid,
    LeakyRelu,
    Gelu,
    Softmax,
    Residual,
    Parallel,
)

SPOKEN = {word: name for layer in LAYERS for word, name in layer.spoken.items()}

if TYPE_CHECKING:
    Layer = LayerOptions
    Layers = tuple[Layer, ...]
else:
    shorthand = Shorthand(
        spoken=SPOKEN,
        main_keys={
            name: layer.main_key
            for layer in LAYERS
            for name in get_args(layer.model_fields["name"].annotation)
            if layer.main_key
        },
        spoken_keys={word: key for layer in LAYERS for word, key in layer.spoken_keys.items()},
    )
    Layer = TypeAliasType("Layer", choice_of(LAYERS, shorthand))  # a name of its own in the JSON Schema
    Layers = Annotated[tuple[Layer, ...], Strict(False), Field(min_length=1)]
    for block in (Residual, Parallel):
        block.model_rebuild(_types_namespace={"Layer": Layer, "Layers": Layers})
