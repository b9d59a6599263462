"""Shares code between HTML pages and plots: heads, table cells, matplotlib without a window."""

from gfx.reports.html.page_head import page_head
from gfx.reports.html.plot import (
    check_plotting,
    matplotlib,
    plain_text,
    png,
    quiet,
    stage_colour,
)

__all__ = [
    "check_plotting",
    "matplotlib",
    "page_head",
    "plain_text",
    "png",
    "quiet",
    "stage_colour",
]
