"""The pictures of `cnntrain explain`: one explanation as a slide, and the walk of an image through a network."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from cnntrain.insight.attribution import Attribution
from cnntrain.insight.stage_maps import StageMap
from cnntrain.models.summary import Stage
from cnntrain.reports.explanations.drawing import (
    SOFT,
    below,
    beside,
    legend,
    one_line,
    ranking,
    text_picture,
    widened,
    with_margin,
)
from cnntrain.runs.feature_pictures import feature_grid, filter_grid, vector_bars
from cnntrain.runs.pictures import as_picture, heat_overlay
from cnntrain.runtime.plain_text import shape_text

Pixels = npt.NDArray[np.uint8]
Ranked = Sequence[tuple[str, float]]

_SIDE = 448  # of an image, px: whole multiples of 28, 32, 64 and 224


def explanation_slide(
    title: str, pixels: Pixels, attribution: Attribution, ranked: Ranked, *, class_name: str, top: int
) -> Image.Image:
    """An image, what in it speaks for a class, and all that the network thinks of it, side by side.

    Args:
        title: What the image is called.
        pixels: uint8 (S, S, C), as the network sees it.
        attribution: Of the class.
        ranked: (class, probability), likeliest first.
        class_name: Which class was asked about.
        top: How many classes to list.
    """
    image = as_picture(pixels, _SIDE)
    overlay = heat_overlay(pixels, attribution.heat.numpy(), min_side=_SIDE, smooth=attribution.smooth)
    signed = attribution.is_signed
    side = pixels.shape[0]
    heading = f"What speaks for {'and against ' if signed else ''}“{class_name}”"
    colours = legend("against" if signed else "nothing", "for", signed=signed, on_image=True)
    columns = [
        below([one_line(f"The image as the network sees it, {side} x {side} px", 18, image.width), image]),
        below([one_line(heading, 18, image.width), overlay, colours]),
        below([text_picture("Probabilities"), ranking(ranked, class_name, top=top)], gap=16),
    ]
    body = beside(columns)
    notes = attribution.how
    if not attribution.heat.any():
        notes += f".\nNothing in this image speaks for “{class_name}” there: the map is 0 everywhere"
    return with_margin(
        below([one_line(title, 28, body.width), body, text_picture(f"{notes}.", 16, SOFT, width=body.width)], gap=18)
    )


def walk_picture(
    title: str, pixels: Pixels, filters: Tensor | None, walk: Sequence[tuple[StageMap, Stage]], ranked: Ranked
) -> Image.Image:
    """The image, then what leaves each stage, then the probabilities, from top to bottom.

    Args:
        title: What the image is called.
        pixels: uint8 (S, S, C), as the network sees it.
        filters: Of the first convolution, see `first_layer_filters`.
        walk: What each stage made of the image, and what is known of the stage.
        ranked: (class, probability), likeliest first; all are shown.
    """
    side, _, channels = pixels.shape
    parts = [_row("input", [f"{side}x{side}x{channels}"], as_picture(pixels, 224))]
    if filters is not None:
        count, arriving, height, width = filters.shape
        shown = filters[:_MOST_FILTERS]
        facts = [f"{height}x{width}x{arriving}, {_of(len(shown), count)} filters", "grey: 0" if arriving != 3 else ""]
        parts.append(_row("first weights", facts, filter_grid(shown)))
    parts += [_stage_row(stage_map, stage) for stage_map, stage in walk]
    parts.append(_row("probabilities", [], ranking(ranked, ranked[0][0], top=len(ranked), width=520)))
    colours = legend("below 0", "above 0; each map by its own largest value", signed=True, on_image=False)
    return with_margin(below([one_line(title, 28, 900), colours, *parts], gap=22))


_MOST_CHANNELS, _MOST_VALUES, _MOST_FILTERS = 16, 200, 64


def _stage_row(stage_map: StageMap, stage: Stage) -> Image.Image:
    activations = stage_map.activations
    height, width = stage.receptive_field_px
    sees = f"each sees {height} px" if height == width else f"each sees {height}x{width} px"
    if activations.ndim == 3:
        channels, *sides = activations.shape
        facts = [shape_text((*sides, channels)), sees, f"{_of(min(channels, _MOST_CHANNELS), channels)} channels"]
        return _row(stage_map.name, facts, feature_grid(activations, most=_MOST_CHANNELS))
    count = len(activations)
    facts = [f"{count:,} values", sees, "" if count <= _MOST_VALUES else f"the {_MOST_VALUES} strongest"]
    return _row(stage_map.name, facts, vector_bars(activations, most=_MOST_VALUES))


def _of(shown: int, count: int) -> str:
    return f"{count:,}" if shown == count else f"{shown} of {count:,}"


def _row(name: str, facts: Sequence[str], picture: Image.Image) -> Image.Image:
    label = [one_line(name, 22, 220), *(text_picture(fact, 16, SOFT, width=220) for fact in facts if fact)]
    return beside([widened(below(label, gap=2), 230), picture], gap=0)
