"""How close training comes to its bare arithmetic, and where the rest of the time goes."""

from cnntrain.insight.bench.measuring import Figures, measure
from cnntrain.insight.bench.report import consistent, report

__all__ = ["Figures", "consistent", "measure", "report"]
