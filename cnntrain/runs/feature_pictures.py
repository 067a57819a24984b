"""Pictures of what is inside a network: feature maps, vectors, filters. Drawn with Pillow."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from cnntrain.runs.pictures import as_picture, heat_colours

_GAP, _PAPER = 4, (255, 255, 255)


def feature_grid(maps: Tensor, *, most: int = 16, columns: int = 8, side: int = 96) -> Image.Image:
    """The most active channels, in their order, each scaled by its own largest magnitude.

    Black is 0, red to yellow above, blue below.

    Args:
        maps: float (C, h, w).
        most: How many channels; those of the largest mean magnitude.
        columns: Maps in a row.
        side: About the side of a map, px: small ones are enlarged by a whole number, large ones are made smaller.
    """
    chosen = strongest(maps.abs().mean((1, 2)), most)
    return _grid([_as_tile(map_, side) for map_ in maps[chosen].float().numpy()], columns)


def strongest(strengths: Tensor, most: int) -> Tensor:
    """The positions of the `most` largest values of (F,), in ascending order: int64."""
    return strengths.topk(min(most, len(strengths))).indices.sort().values


def vector_bars(values: Tensor, *, most: int = 200, width: int = 800, height: int = 72) -> Image.Image:
    """A bar for each value, up (red to yellow) or down (blue) from 0; of many, the strongest, in their order.

    Args:
        values: float (F,).
        most: How many values.
        width: At most, px; a bar is at most 24 px wide.
        height: Of the picture, px.
    """
    shown = values[strongest(values.abs(), most)].float().numpy()
    levels = shown / max(float(np.abs(shown).max()), 1e-12)
    rows = np.linspace(max(float(levels.max()), 0), min(float(levels.min()), 0), height)[:, None]
    filled = (rows * levels >= 0) & (np.abs(rows) <= np.abs(levels)) & (levels != 0)
    colours = np.where(filled[..., None], heat_colours(np.sign(levels) * (0.5 + 0.5 * np.abs(levels))), 0)
    thickness = max(1, min(24, width // len(shown)))
    sheet = colours.round().astype(np.uint8).repeat(thickness, axis=1)
    if thickness >= 4:
        sheet[:, thickness - 1 :: thickness] = 0  # a gap between two bars
    return Image.fromarray(sheet)


def filter_grid(weights: Tensor, *, columns: int = 16, side: int = 48) -> Image.Image:
    """The filters of a first convolution, each scaled by its own largest magnitude around mid-grey, which is 0.

    Args:
        weights: float (out, in, k, k); in colour where `in` is 3, else in grey, averaged over `in`.
        columns: Filters in a row.
        side: Least side of a filter, px.
    """
    kernels = (weights if weights.shape[1] == 3 else weights.mean(1, keepdim=True)).float()
    levels = kernels / kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    pixels = (127.5 + 127.5 * levels).round().byte().permute(0, 2, 3, 1).numpy()
    return _grid([as_picture(tile, side) for tile in pixels], columns)


def _as_tile(values: npt.NDArray[np.float32], side: int) -> Image.Image:
    levels = values / max(float(np.abs(values).max()), 1e-12)
    tile = as_picture(heat_colours(levels).round().astype(np.uint8), side)
    if max(tile.size) > 1.25 * side:
        tile.thumbnail((side, side), Image.Resampling.BOX)
    return tile


def _grid(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Tiles of one size, in rows."""
    columns, (width, height) = min(columns, len(tiles)), tiles[0].size
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), _PAPER)
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * (width + _GAP), index // columns * (height + _GAP)))
    return sheet
