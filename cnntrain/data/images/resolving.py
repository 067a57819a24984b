"""What a configuration leaves open about images, resolved from the data set."""

from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.data.options import Data
from cnntrain.errors import ConfigError


def resolve_inputs(options: Data, channels: int, image_size: int) -> Inputs:
    """What will reach a network.

    Args:
        options: The `data` section.
        channels: As the data set has them, where the options say nothing.
        image_size: The usual side, px, likewise.
    """
    channels = options.channels or (len(options.mean) if options.mean else channels)
    return image_inputs(channels, options.image_size or image_size)


def resolve_preprocessing(options: Data, channels: int, image_size: int) -> Preprocessing:
    """How images are prepared; mean and std are provisional where the options leave them to the training images.

    Args:
        options: The `data` section.
        channels: As `resolve_inputs` takes them.
        image_size: Likewise.

    Raises:
        ConfigError: Images are stored smaller than they are wanted.
    """
    inputs = resolve_inputs(options, channels, image_size)
    channels, (image_size, _) = inputs.channels, inputs.size
    stored_size = options.stored_size or image_size
    if stored_size < image_size:
        raise ConfigError(f"must be at least image_size {image_size} (got {stored_size})", key="data.stored_size")
    mean, std = options.mean or (0.5,) * channels, options.std or (0.5,) * channels
    return Preprocessing(channels, image_size, stored_size, options.resize, mean, std)
