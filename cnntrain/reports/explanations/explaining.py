"""Images explained: from files to pictures and plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnntrain.config.faults import suggest
from cnntrain.data.images.decode import fit_content, read_bytes
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.errors import ConfigError, DataError
from cnntrain.insight.attribution import attribute
from cnntrain.insight.stage_maps import first_layer_filters, stage_maps
from cnntrain.models.summary import summarise
from cnntrain.reports.explanations import LAYERS, Question
from cnntrain.reports.explanations.saving import Pictures
from cnntrain.reports.explanations.slides import Ranked, explanation_slide, walk_picture
from cnntrain.runtime.device import exact_float32, memory_explained
from cnntrain.trained import Prediction, Trained
from cnntrain.trained.predict import predict_each


class Explained(NamedTuple):
    """A picture, and what it shows as plain values."""

    picture: Image.Image
    facts: dict[str, Any]


class Subject(NamedTuple):
    """An image and what the network makes of it.

    Attributes:
        title: What it is called.
        pixels: uint8 (stored_size, stored_size, C).
        ranked: All classes with their probabilities, likeliest first.
    """

    title: str
    pixels: Pixels
    ranked: Ranked


@dataclass(frozen=True)
class ExplainedFile:
    """What was said and drawn of an image file.

    Attributes:
        prediction: Of all classes.
        picture: Where it was written.
        facts: What the picture shows, as plain values.
    """

    prediction: Prediction
    picture: Path
    facts: dict[str, Any]

    def to_dict(self, top: int) -> dict[str, Any]:
        """Plain values, of the `top` likeliest classes."""
        return {**self.prediction.to_dict(top), "picture": str(self.picture), **self.facts}


def explain_files(
    trained: Trained, files: Sequence[Path | DataError], question: Question, pictures: Pictures
) -> Iterator[ExplainedFile | DataError]:
    """For each file, in order, what the network says of it and a picture of why; or why it cannot be read.

    Args:
        trained: Is asked for reasons.
        files: As `find_images` gives them.
        question: What is asked about each.
        pictures: Where they are written.

    Raises:
        ConfigError: The network has no such class, or the method nothing to show of this network.
        DeviceError: There is not enough memory.
        StorageError: A picture cannot be written.
    """
    for file, prediction in zip(files, predict_each(trained, files, len(trained.task.class_names)), strict=True):
        if isinstance(prediction, DataError):
            yield prediction
            continue
        assert isinstance(file, Path)
        content = read_bytes(file)
        picture, facts = _explain_content(trained, file, content, prediction, question)
        yield ExplainedFile(prediction, pictures.save(picture, file, question.kind, content), facts)


def explain_file(trained: Trained, file: Path, question: Question) -> Explained:
    """A picture of why a network says what it says of an image file, and its facts.

    Raises:
        ConfigError: The network has no such class, or the method nothing to show of this network.
        DataError: The file cannot be read.
        DeviceError: There is not enough memory.
    """
    prediction = trained.predict(file, top=trained.task.num_outputs)
    return _explain_content(trained, file, read_bytes(file), prediction, question)


def _explain_content(
    trained: Trained, file: Path, content: bytes, prediction: Prediction, question: Question
) -> Explained:
    pixels = fit_content(content, trained.preprocessing, file)
    subject = Subject(str(Path(*file.parts[-2:])), pixels, prediction.ranked)
    with memory_explained("close other programs, or use --device cpu"):
        return explain(trained, subject, question)


def explain(trained: Trained, subject: Subject, question: Question) -> Explained:
    """A picture of why a network says what it says of an image, and its facts.

    Raises:
        ConfigError: The network has no such class, or the method nothing to show of this network.
    """
    image = _network_input(trained, subject.pixels)
    seen = trained.preprocessing.show(image[None])[0].numpy()
    if question.method == LAYERS:
        return _walk(trained, subject, image, seen, question.top)
    chosen = subject.ranked[0][0] if question.class_name is None else question.class_name
    index = class_index(trained.task.class_names, chosen)
    black = _network_input(trained, np.zeros_like(subject.pixels))
    attribution = attribute(trained.network, image, index, method=question.method, black=black)
    slide = explanation_slide(subject.title, seen, attribution, subject.ranked, class_name=chosen, top=question.top)
    return Explained(slide, {"class": chosen, "method": question.method, **attribution.facts})


def class_index(class_names: Sequence[str], name: str) -> int:
    """The number of a class.

    Raises:
        ConfigError: There is none of this name.
    """
    if name in class_names:
        return class_names.index(name)
    more = f" and {len(class_names) - 20:,} more" if len(class_names) > 20 else ""
    raise ConfigError(
        f"--class {name}: the network knows no such class{suggest(name, class_names)} "
        f"(allowed: {', '.join(class_names[:20])}{more})"
    )


def _walk(trained: Trained, subject: Subject, image: Tensor, seen: Pixels, top: int) -> Explained:
    network = trained.network
    with exact_float32():
        maps = stage_maps(network, image)
    stages = {stage.name: stage for stage in summarise(network, trained.preprocessing.inputs).stages}
    walk = [(stage_map, stages[stage_map.name]) for stage_map in maps]
    picture = walk_picture(subject.title, seen, first_layer_filters(network), walk, subject.ranked[:top])
    return Explained(picture, {"stages": {name: list(activations.shape) for name, activations in maps}})


def _network_input(trained: Trained, pixels: Pixels) -> Tensor:
    return trained.preprocessing.network_input(torch.tensor(pixels, device=trained.device)[None])[0]
