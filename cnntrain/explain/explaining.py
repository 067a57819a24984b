"""One image explained: from its pixels to a picture and to plain values."""

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnntrain.analysis.stage_maps import first_layer_filters, stage_maps
from cnntrain.config.faults import suggest
from cnntrain.data.preprocessing import Pixels, Preprocessing
from cnntrain.errors import ConfigError
from cnntrain.explain import LAYERS, Question
from cnntrain.explain.attribution import attribute
from cnntrain.explain.slides import Ranked, explanation_slide, walk_picture
from cnntrain.models.summary import summarise
from cnntrain.runtime.device import exact_float32


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


class Explainer:
    """A network that is asked for reasons.

    Args:
        model: In evaluation mode, on `device`.
        preprocessing: The checkpoint's.
        class_names: K names.
        device: Where to compute.
    """

    def __init__(
        self, model: nn.Module, preprocessing: Preprocessing, class_names: tuple[str, ...], device: torch.device
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.class_names = class_names
        self.device = device

    def class_index(self, name: str) -> int:
        """The number of a class.

        Raises:
            ConfigError: There is none of this name.
        """
        if name in self.class_names:
            return self.class_names.index(name)
        more = f" and {len(self.class_names) - 20:,} more" if len(self.class_names) > 20 else ""
        raise ConfigError(
            f"--class {name}: the network knows no such class{suggest(name, self.class_names)} "
            f"(allowed: {', '.join(self.class_names[:20])}{more})"
        )

    def answer(self, subject: Subject, question: Question) -> Explained:
        """A picture and its facts.

        Raises:
            ConfigError: The method has nothing to show of this network.
        """
        image = self._input(subject.pixels)
        seen = self.preprocessing.pixels(image[None])[0].numpy()
        if question.method == LAYERS:
            return self._walk(subject, image, seen, question.top)
        chosen = subject.ranked[0][0] if question.class_name is None else question.class_name
        black = self._input(np.zeros_like(subject.pixels))
        found = attribute(self.model, image, self.class_index(chosen), method=question.method, black=black)
        slide = explanation_slide(subject.title, seen, found, subject.ranked, class_name=chosen, top=question.top)
        return Explained(slide, {"class": chosen, "method": question.method, **found.facts})

    def _walk(self, subject: Subject, image: Tensor, seen: Pixels, top: int) -> Explained:
        with exact_float32():
            maps = stage_maps(self.model, image)
        known = {stage.name: stage for stage in summarise(self.model, self.preprocessing.inputs).stages}
        walk = [(found, known[found.name]) for found in maps]
        picture = walk_picture(subject.title, seen, first_layer_filters(self.model), walk, subject.ranked[:top])
        return Explained(picture, {"stages": {name: list(activations.shape) for name, activations in maps}})

    def _input(self, pixels: Pixels) -> Tensor:
        images = torch.tensor(pixels, device=self.device).permute(2, 0, 1)[None]
        return self.preprocessing.network_input(images)[0]
