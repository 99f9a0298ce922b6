"""The report's first page: one HTML file that opens from disk, with everything that a run made."""

from relmap.report.page import write_report

__all__ = ["write_report"]
