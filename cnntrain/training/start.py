"""What a network starts from: random or trained weights, and the preprocessing that goes with these."""

from pydantic import ValidationError
from torch import nn

from cnntrain.config import schema
from cnntrain.data.splits import Splits
from cnntrain.errors import ConfigError
from cnntrain.models import build_model, count_parameters
from cnntrain.models.pretrained import Weights, load_weights, read_weights
from cnntrain.runtime.device import memory_explained


def initial_weights(config: schema.Config) -> tuple[schema.Config, Weights | None]:
    """The trained weights that a configuration names, if any; and the configuration with their own preprocessing.

    What the configuration says itself stands: channels, sizes, resizing, mean and std are only filled in.

    Raises:
        CheckpointError: The file is missing, damaged or holds no weights; or it cannot be downloaded.
        ConfigError: torchvision has no weights for this network; or the configuration contradicts their preprocessing.
    """
    if config.model.weights is None:
        return config, None
    weights = read_weights(config.model.weights, config.model.published)
    written = config.data.model_dump(exclude_unset=True, exclude_none=True)
    known = {key: value for key, value in weights.preprocessing.items() if key not in written}
    if "image_size" in written:
        known.pop("stored_size", None)
    if "mean" in written:  # which says the channels too
        known.pop("channels", None)
    if written.get("channels", known.get("channels")) != weights.preprocessing.get("channels"):
        known = {key: value for key, value in known.items() if key not in ("mean", "std")}
    try:
        data = schema.Data.model_validate({**written, **known})
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"does not go with the preprocessing of {weights.path}: {fault}", key="data") from error
    return config.model_copy(update={"data": data}), weights


def build_network(config: schema.Config, splits: Splits, weights: Weights | None) -> tuple[nn.Module, list[str]]:
    """The network on the CPU with its initial weights, and what the user should know of them, one sentence each.

    Raises:
        CheckpointError: The trained weights are those of another network.
        ConfigError: The images are too small for the network, its layers do not fit, or there is nothing to train.
        DeviceError: Its weights do not fit into memory.
    """
    with memory_explained("the network itself is too large; make its layers smaller (see cnntrain summary)"):
        model = build_model(config.model, splits.preprocessing.inputs, splits.num_classes, seed=config.run.seed)
    if count_parameters(model) == 0:
        raise ConfigError("this network has no parameters, so there is nothing to train", key="model")
    if weights is None:
        frozen = ["model.freeze keeps random weights as they are: there is no model.weights"]
        return model, frozen if config.model.freeze else []
    notices = [*weights.notices, *load_weights(model, weights, splits.class_names)]
    if config.model.init != "default":
        notices.append("model.init has no effect on what model.weights brings")
    return model, notices
