"""What a network for images asks of what arrives."""

from cnntrain.data.inputs import Inputs
from cnntrain.errors import ConfigError


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
