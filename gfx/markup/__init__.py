"""What HTML pages and plots share: a style, cells of tables, matplotlib without a window."""

from gfx.markup.plotting import check_plotting, matplotlib, plain_text, png, quiet, stage_colour
from gfx.markup.styling import style

__all__ = ["check_plotting", "matplotlib", "plain_text", "png", "quiet", "stage_colour", "style"]
