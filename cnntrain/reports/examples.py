"""Images worth looking at, each beside a map of where the network looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup
from PIL import Image

from cnntrain.data.images.preprocessing import Pixels
from cnntrain.insight.activation_maps import activation_maps
from cnntrain.reports.findings import Findings, Outcome
from cnntrain.reports.pages import picture
from cnntrain.runs.pictures import heat_overlay
from cnntrain.runtime.device import exact_float32
from cnntrain.tasks.metrics import Confusion, most_confused
from cnntrain.trained import Trained

MOST = 14  # of each kind
_PAIRS, _PER_PAIR = 4, 4
_THUMBNAIL_PX = 144
Positions = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """An image of a split.

    Attributes:
        name: The file's, or the position in a set that comes as one array.
        label: The class that it is said to be.
        predicted: What the network says.
        confidence: Of that, in [0, 1].
        image: As the network saw it.
        map: The same under its class-activation map for `predicted`; empty for networks that have none.
    """

    name: str
    label: str
    predicted: str
    confidence: float
    image: Markup
    map: Markup


class ConfusedPair(NamedTuple):
    """A class that is taken for another one.

    Attributes:
        num_mistaken: How often.
        support: Images of the class.
        examples: The surest of these mistakes.
    """

    truth: str
    predicted: str
    num_mistaken: int
    support: int
    examples: list[Example]


class Examples:
    """Draws images of a split.

    Args:
        trained: The network that they are shown to.

    Attributes:
        map_described: Which map was drawn last, for people; empty while there is none.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self._preprocessing, self._class_names = trained.preprocessing, trained.task.class_names
        self.map_described = ""

    def draw(self, outcome: Outcome, positions: Positions) -> list[Example]:
        """The images at these positions of an outcome's split."""
        if not len(positions):
            return []
        stored, _ = next(outcome.split.read(torch.as_tensor(np.asarray(positions)), [slice(None)]))
        images = self._preprocessing.network_input(stored)
        predicted = torch.from_numpy(outcome.predictions[positions])
        pixels, maps = self._preprocessing.show(images).numpy(), self._maps(images, predicted.to(self._trained.device))
        return [
            self._example(outcome, int(position), shown, heat)
            for position, shown, heat in zip(positions, pixels, maps, strict=True)
        ]

    def _maps(self, images: torch.Tensor, classes: torch.Tensor) -> list[npt.NDArray[np.float32] | None]:
        with exact_float32():
            try:
                maps = activation_maps(self._trained.network, images, classes)
            except ValueError:  # no layer keeps the plane
                return [None] * len(images)
        self.map_described = maps.described
        return list(maps.heat.cpu().numpy())

    def _example(
        self, outcome: Outcome, position: int, pixels: Pixels, heat: npt.NDArray[np.float32] | None
    ) -> Example:
        label, predicted = (self._class_names[at[position]] for at in (outcome.targets, outcome.predictions))
        alt = f"an image labelled {label}, called {predicted}"
        seen_at = f"where the network sees {predicted} in it"
        overlay = Markup() if heat is None else thumbnail_of(heat_overlay(pixels, heat), seen_at)
        return Example(
            outcome.split.names[position],
            label,
            predicted,
            float(outcome.confidences[position]),
            thumbnail(pixels, alt),
            overlay,
        )

    def worst_mistakes(self, outcome: Outcome) -> list[Example]:
        """Wrong ones with the least probability of their label, worst first."""
        wrong = np.flatnonzero(~outcome.right)
        of_label = outcome.probabilities[wrong, outcome.targets[wrong]]
        return self.draw(outcome, wrong[np.argsort(of_label, kind="stable")][:MOST])

    def least_certain(self, outcome: Outcome) -> list[Example]:
        """Right ones of the least confidence, least first."""
        right = np.flatnonzero(outcome.right)
        return self.draw(outcome, right[np.argsort(outcome.confidences[right], kind="stable")][:MOST])

    def confused_pairs(self, findings: Findings) -> list[ConfusedPair]:
        """For the pairs that were mistaken most often: of each, the surest mistakes."""
        test, pairs = findings.test, []
        confusion = Confusion.of(test.targets, test.predictions, len(self._class_names))
        for pair in most_confused(confusion, self._class_names, _PAIRS):
            truth, predicted = (self._class_names.index(pair[key]) for key in ("true", "predicted"))
            members = np.flatnonzero((test.targets == truth) & (test.predictions == predicted))
            surest = members[np.argsort(-test.confidences[members], kind="stable")][:_PER_PAIR]
            support = int((test.targets == truth).sum())
            pairs.append(ConfusedPair(pair["true"], pair["predicted"], pair["count"], support, self.draw(test, surest)))
        return pairs

    def of_each_class(self, outcome: Outcome, most: int = 40) -> list[tuple[str, Markup]]:
        """The first image of each class, up to `most` classes."""
        thumbnails = []
        for label, name in enumerate(self._class_names[:most]):
            members = np.flatnonzero(outcome.targets == label)[:1]
            if len(members):
                stored = torch.from_numpy(outcome.split.items(members.tolist()))
                shown = self._preprocessing.show(self._preprocessing.network_input(stored))
                thumbnails.append((name, thumbnail(shown[0].numpy(), f"an image of {name}")))
        return thumbnails


def thumbnail(pixels: Pixels, alt: str) -> Markup:
    """Pixels uint8 (H, W, C) for the page, small ones with sharp squares."""
    return thumbnail_of(Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels), alt)


def thumbnail_of(image: Image.Image, alt: str) -> Markup:
    """A picture at the size of a thumbnail, or smaller as it is."""
    small = image.width <= 96
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    return picture(image, alt, "pixels" if small else "")
