"""Activations: layers of their own, or what follows a layer."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from cnntrain.errors import ConfigError
from cnntrain.models.layers.base import Arriving, Built, LayerOptions

Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "gelu"]

_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}


def activated(module: nn.Module, activation: str | None) -> nn.Module:
    """A layer and the activation that follows it, if any."""
    return nn.Sequential(module, _MODULES[activation]()) if activation else module


def check_softmax(arriving: Arriving) -> None:
    """Lets softmax stand where the loss computes it.

    Raises:
        ConfigError: It stands elsewhere.
    """
    if not arriving.at_end:
        raise ConfigError("softmax stands at the very end, where the loss computes it; remove it here", arriving.key)


class ActivationOptions(LayerOptions):
    """What every activation has."""

    def build(self, arriving: Arriving) -> Built:
        return Built(_MODULES[self.name](), arriving.shape)


class Relu(ActivationOptions):
    """max(x, 0)."""

    spoken: ClassVar = {"ReLU": "relu"}

    name: Literal["relu"] = "relu"


class Tanh(ActivationOptions):
    """The hyperbolic tangent."""

    spoken: ClassVar = {"Tanh": "tanh"}

    name: Literal["tanh"] = "tanh"


class Sigmoid(ActivationOptions):
    """1 / (1 + exp(-x))."""

    spoken: ClassVar = {"Sigmoid": "sigmoid"}

    name: Literal["sigmoid"] = "sigmoid"


class LeakyRelu(ActivationOptions):
    """x, or a small part of it where it is negative."""

    spoken: ClassVar = {"LeakyReLU": "leaky_relu"}
    main_key: ClassVar = "negative_slope"

    name: Literal["leaky_relu"] = "leaky_relu"
    negative_slope: Annotated[float, Field(ge=0, lt=1)] = 0.01

    def build(self, arriving: Arriving) -> Built:
        return Built(nn.LeakyReLU(self.negative_slope), arriving.shape)


class Gelu(ActivationOptions):
    """x times the normal distribution's function at x."""

    spoken: ClassVar = {"GELU": "gelu"}

    name: Literal["gelu"] = "gelu"


class Softmax(LayerOptions):
    """May be written at the end; it is the loss that computes it."""

    spoken: ClassVar = {"Softmax": "softmax"}

    name: Literal["softmax"] = "softmax"

    def build(self, arriving: Arriving) -> Built:
        check_softmax(arriving)
        return Built(nn.Identity(), arriving.shape)
