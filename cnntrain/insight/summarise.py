"""Networks without training: that of a configuration layer by layer, and all that there are."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from cnntrain.config.loading import Config
from cnntrain.data.expected import expect_data
from cnntrain.models import CATALOGUE, NETWORKS, Model, build_outline
from cnntrain.models.options import Entry
from cnntrain.models.stages import frozen_stages
from cnntrain.models.summary import Shape, Summary, summarise

ASSUMED_CLASSES = 1000


@dataclass(frozen=True)
class ConfigSummary:
    """The network of a configuration.

    Attributes:
        name: As in `model.name`.
        num_classes: Size of its output.
        network: Layer by layer.
        notices: What the user should know, one sentence each.
    """

    name: str
    num_classes: int
    network: Summary
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """A line of `cnntrain models`; a network that is written in YAML has no numbers.

    Attributes:
        parameters: Of the network that classifies.
        parameters_with_auxiliary: With the auxiliary classifiers that it is trained with, where it has any.
        multiply_adds: For one image.
        smallest_image_size: The least that works, px.
        input_shape: The usual one, (height, width, channels).
        num_classes: The usual size of the output.
    """

    name: str
    variant: str
    parameters: int | None = None
    parameters_with_auxiliary: int | None = None
    multiply_adds: int | None = None
    smallest_image_size: int | None = None
    input_shape: Shape | None = None
    num_classes: int | None = None
    paper: str | None = None


def summarise_config(config: Config, num_classes: int | None = None) -> ConfigSummary:
    """Layer by layer, the network that a configuration would train. No data and no weights are read.

    Args:
        config: The whole configuration.
        num_classes: Instead of the data's.

    Raises:
        ConfigError: The images are too small for the network, or its layers do not fit together.
        DataError: The folder of images is not as it should be.
    """
    expected = expect_data(config.data, data_root=config.run.data_root, num_classes=num_classes)
    notices = []
    if expected.num_classes is None:
        notices.append(
            f"{config.data.root} is not there to count its classes, so {ASSUMED_CLASSES:,} are assumed; "
            f"--classes N changes it, --data-root DIR says where it is"
        )
    if config.model.weights is not None and None in (config.data.image_size, config.data.channels):
        notices.append("model.weights is not read; trained weights may bring their own channels and image size")
    classes = expected.num_classes or ASSUMED_CLASSES
    network = build_outline(config.model, expected.inputs, classes)
    if frozen := frozen_stages(network, config.model.freeze):
        notices.append(f"model.freeze: these stages stay as they are: {', '.join(frozen)}")
    return ConfigSummary(config.model.name, classes, summarise(network, expected.inputs), tuple(notices))


def catalogue_figures() -> list[Figures]:
    """All networks, measured as they are usually trained; then those that are never alike."""
    unmeasured = [network.model_fields["name"].default for network in NETWORKS if not network.usual]
    return [*(_measure(entry) for entry in CATALOGUE), *(Figures(name, "") for name in unmeasured)]


def _measure(entry: Entry) -> Figures:
    options = TypeAdapter[Model](Model).validate_python(entry.config)
    summary = summarise(build_outline(options, entry.inputs, entry.num_outputs), entry.inputs)
    totals = summary.totals
    return Figures(
        name=entry.name,
        variant=entry.variant,
        parameters=totals.parameters - totals.training_parameters,
        parameters_with_auxiliary=totals.parameters if totals.training_parameters else None,
        multiply_adds=totals.multiply_adds,
        smallest_image_size=entry.smallest_size,
        input_shape=summary.walk[0],
        num_classes=entry.num_outputs,
        paper=entry.paper,
    )
