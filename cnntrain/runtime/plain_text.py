"""Columns, shapes and numbers as plain text; without PyTorch, so that lists of runs are quick."""

from collections.abc import Iterable, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Lines of columns as wide as their widest cell; those numbered in `right` end flush."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    sides = [">" if number in set(right) else "<" for number in range(len(widths))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def shape_text(shape: Sequence[int] | None) -> str:
    """(32, 32, 16) -> `32x32x16`, (10,) -> `10`, None -> nothing."""
    return "x".join(map(str, shape or ()))


def number(count: int | None) -> str:
    """61706 -> `61,706`, None -> nothing."""
    return "" if count is None else f"{count:,}"


def percent(fraction: float) -> str:
    """0.98765 -> `98.77 %`."""
    return f"{100 * fraction:.2f} %"


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
