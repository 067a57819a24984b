"""Networks as text: one layer by layer, and all that there are."""

import textwrap
from collections.abc import Iterable, Sequence

from cnntrain.models.summary import Layer, Shape, Stage
from cnntrain.summarise import ConfigSummary, Figures

SCREEN_WIDTH = 120


def summary_text(found: ConfigSummary) -> list[str]:
    """What `cnntrain summary` prints: the walk of the image, a table of stages and layers, totals."""
    network, totals = found.network, found.network.totals
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
        f"{found.name}, {found.num_classes:,} classes",
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


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Lines of columns as wide as their widest cell; those numbered in `right` end flush."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    sides = [">" if number in set(right) else "<" for number in range(len(widths))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def shape_text(shape: Shape | None) -> str:
    """(32, 32, 16) -> `32x32x16`, (10,) -> `10`, None -> nothing."""
    return "x".join(map(str, shape or ()))


def number(count: int | None) -> str:
    """61706 -> `61,706`, None -> nothing."""
    return "" if count is None else f"{count:,}"


def quantity(count: float | None) -> str:
    """4089184256 -> `4.09 G`, 442368 -> `442 k`, 84 -> `84`, None -> nothing."""
    return "" if count is None else _scaled(count, 1000, ("", "k", "M", "G", "T"))


def memory(count: int) -> str:
    """65536 -> `64.0 KiB`."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(count: float, base: int, units: Sequence[str]) -> str:
    """Three digits and a unit."""
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / base, power + 1
    decimals = 0 if power == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:,.{decimals}f} {units[power]}".rstrip()


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
