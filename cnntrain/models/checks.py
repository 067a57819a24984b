"""What every architecture asks of its input."""

from cnntrain.errors import ConfigError


def check_image_size(network: str, image_size: int, smallest: int, hint: str = "") -> None:
    """Refuses images that would vanish on their way through a network.

    Args:
        network: How to call it in the message.
        image_size: Side of the square input, px.
        smallest: The least that works, px.
        hint: What else could be done.

    Raises:
        ConfigError: The image is too small.
    """
    if image_size < smallest:
        raise ConfigError(
            f"{network} needs images of at least {smallest} px (got {image_size}){hint}", key="data.image_size"
        )
