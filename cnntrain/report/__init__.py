"""The report of a run: what it was, what came out, where it fails and how far it can be trusted, on one page."""

from cnntrain.report.page import report_summary, write_report

__all__ = ["report_summary", "write_report"]
