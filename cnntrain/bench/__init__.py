"""How close training comes to its bare arithmetic, and where the rest of the time goes."""

from cnntrain.bench.consistency import consistent
from cnntrain.bench.measuring import Figures, measure
from cnntrain.bench.report import report

__all__ = ["Figures", "consistent", "measure", "report"]
