"""What all networks share: options, what they ask of what arrives, and what they return.

The options of each network stand beside it, with what builds it.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from cnntrain.config.section import Section
from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.errors import ConfigError

IMAGENET = (image_inputs(3, 224), 1000)  # usual inputs and number of outputs
CIFAR = (image_inputs(3, 32), 10)


@dataclass(frozen=True)
class Entry:
    """A line of `cnntrain models`: a network as it is usually trained.

    Attributes:
        config: A `model` section that names it.
        inputs: What usually arrives.
        num_outputs: How many values it then gives: one for each class.
        smallest_size: The least side that works, px.
        paper: Where it was published.
    """

    config: dict[str, str]
    inputs: Inputs
    num_outputs: int
    smallest_size: int
    paper: str

    @property
    def name(self) -> str:
        """As in `model.name`."""
        return self.config["name"]

    @property
    def variant(self) -> str:
        """What else the section says: `paper`, or `stem: small`."""
        options = {key: value for key, value in self.config.items() if key != "name"}
        return ", ".join(value if key == "variant" else f"{key}: {value}" for key, value in options.items())


class Published(NamedTuple):
    """The same network in torchvision, whose published weights fit.

    Attributes:
        name: What torchvision calls it.
        arguments: What its function needs to build it, besides the number of classes.
        mean: Per channel, with which its images were normalised.
        std: Per channel.
    """

    name: str
    arguments: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class NetworkOptions(Section):
    """What every network has; `usual` are its lines of `cnntrain models`."""

    usual: ClassVar[tuple[Entry, ...]] = ()

    name: str
    init: Literal["default", "kaiming", "xavier", "orthogonal", "paper"] = Field(
        "default", description="Initial weights; default: as this variant is usually started; paper: as its paper says."
    )
    weights: str | None = Field(
        None,
        description="Trained weights to start from: a checkpoint of cnntrain, a safetensors file, a state dict (.pth), "
        "or `torchvision` for its published ones.",
    )
    freeze: Annotated[str | None, BeforeValidator(lambda value: str(value) if type(value) is int else value)] = Field(
        None,
        description="backbone: train the head alone; or the last stage that stays as it is (see `cnntrain summary`).",
    )

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        """The network, its weights drawn with torch's global generator.

        Args:
            inputs: What arrives.
            num_outputs: Values that it gives for each example.

        Raises:
            ConfigError: It does not take such inputs.
        """
        raise NotImplementedError

    @property
    def published(self) -> Published | None:
        """This very network in torchvision; None where it has none like it."""
        return None

    def _refuse(self, **applies_to: str) -> None:
        """Refuses options that were changed where they have no meaning."""
        for key, where in applies_to.items():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} applies to {where} (got {key}: {getattr(self, key)}); remove it")


def check_images(network: str, inputs: Inputs, smallest: int, hint: str = "") -> None:
    """Refuses what is no image, and images that would vanish on their way through a network.

    Args:
        network: How to call it in the message.
        inputs: What arrives.
        smallest: The least side that works, px.
        hint: What else could be done.

    Raises:
        ConfigError: It is no image, or it is too small.
    """
    if inputs.kind != "image":
        sides = "x".join(str(side) for side in inputs.size)
        raise ConfigError(f"{network} takes images (got {inputs.kind}, {sides} x {inputs.channels})", key="model.name")
    if min(inputs.size) < smallest:
        raise ConfigError(
            f"{network} needs images of at least {smallest} px (got {min(inputs.size)}){hint}", key="data.image_size"
        )


class WithAuxiliary(NamedTuple):
    """Logits, and those of auxiliary classifiers, each (N, num_classes), from the input towards the output.

    The loss is that of `logits` plus `weight` times that of each auxiliary classifier. Networks return this in
    training mode alone; in evaluation mode they return the logits.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
