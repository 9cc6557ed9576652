"""The report of one or more runs: a single HTML file for a lab meeting."""

from closedloop.report.page import build_report, write_report

__all__ = ["build_report", "write_report"]
