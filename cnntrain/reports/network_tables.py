"""Networks as text: one layer by layer, and all that there are."""

import textwrap
from collections.abc import Iterable

from cnntrain.insight.summarise import ConfigSummary, Figures
from cnntrain.models.summary import Layer, Stage
from cnntrain.runtime.plain_text import aligned, memory, number, quantity, shape_text

SCREEN_WIDTH = 120


def summary_text(summary: ConfigSummary) -> list[str]:
    """What `cnntrain summary` prints: the walk of the image, a table of stages and layers, totals."""
    network, totals = summary.network, summary.network.totals
    walk = " -> ".join(shape_text(shape) for shape in network.walk)
    rows: list[tuple[str, ...]] = [
        ("layer", "kind", "output", "parameters", "multiply-adds", "receptive field", "activations")
    ]
    for stage in network.stages:
        rows.append(_figures(stage.name, "", stage))
        rows += [
            _figures(f"  {layer.name}", layer.kind, layer) for layer in network.layers if layer.stage == stage.name
        ]
    in_training = f" ({totals.training_parameters:,} of them in training alone)" if totals.training_parameters else ""
    return [
        f"{summary.name}, {summary.num_classes:,} classes",
        *textwrap.wrap(walk, SCREEN_WIDTH, break_on_hyphens=False, break_long_words=False),
        "",
        *aligned(rows, right=range(2, 7)),
        "",
        f"parameters     {totals.parameters:,}{in_training}",
        f"multiply-adds  {quantity(totals.multiply_adds)} ({totals.multiply_adds:,}) for one image",
        f"activations    {memory(totals.activation_bytes)} for one image in float32: what the layers return",
        "",
        "receptive field: side of what one value sees of the image; where it is larger, it includes padding",
    ]


def models_text(models: Iterable[Figures]) -> list[str]:
    """What `cnntrain models` prints."""
    rows = [("name", "variant", "parameters", "with auxiliary", "multiply-adds", "input", "smallest", "paper")]
    rows += [
        (
            model.name,
            model.variant,
            number(model.parameters),
            number(model.parameters_with_auxiliary),
            quantity(model.multiply_adds),
            shape_text(model.input_shape),
            f"{model.smallest_image_size} px" if model.smallest_image_size else "",
            model.paper or "as written in YAML",
        )
        for model in models
    ]
    return [
        *aligned(rows, right=range(2, 7)),
        "",
        "parameters and multiply-adds (of one image) at this input, for 1,000 classes at 224 px and 10 at 32 px;",
        "cnntrain summary CONFIG shows a network layer by layer",
    ]


def _figures(name: str, kind: str, of: Layer | Stage) -> tuple[str, ...]:
    seen = of.receptive_field_px
    return (
        name,
        kind,
        shape_text(of.output_shape) or "in training",
        number(of.parameters) if of.parameters else "",
        quantity(of.multiply_adds) if of.multiply_adds else "",
        f"{seen[0]}x{seen[1]} px" if seen and seen[0] != seen[1] else f"{seen[0]} px" if seen else "",
        memory(of.activation_bytes) if of.activation_bytes else "",
    )
