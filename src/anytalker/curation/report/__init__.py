"""What a curation shows: the funnel, the numbers behind it, and clips to look at."""

from __future__ import annotations

from anytalker.curation.report.page import write_report

__all__ = ["write_report"]
