"""The report of a run: what it was, what came out, where it fails and how far it can be trusted, on one page."""

from cnntrain.report.compare import compare_runs
from cnntrain.report.page import report_summary, write_report

__all__ = ["compare_runs", "report_summary", "write_report"]
