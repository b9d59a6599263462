"""Shares code between HTML pages and plots: style, table cells, matplotlib without a window."""

from gfx.reports.html.plot import (
    check_plotting,
    matplotlib,
    plain_text,
    png,
    quiet,
    stage_colour,
)
from gfx.reports.html.stylesheet import style

__all__ = ["check_plotting", "matplotlib", "plain_text", "png", "quiet", "stage_colour", "style"]
