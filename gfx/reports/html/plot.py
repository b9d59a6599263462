"""Draws plots by matplotlib: no state, no window, the same colours as pages."""

from io import BytesIO
from typing import Any

from gfx.errors import InputError
from gfx.io.guards import printable

__all__ = ["OTHER", "check_plotting", "matplotlib", "plain_text", "png", "quiet", "stage_colour"]

# of the stages; distinct for the colour-blind too (Okabe and Ito)
_COLOURS = {
    "stem": "#9467bd",
    "down": "#0072b2",
    "body": "#009e73",
    "up": "#d55e00",
    "head": "#cc79a7",
}
OTHER = "#666666"


def check_plotting() -> None:
    """Checks, before long work, that pictures can be drawn.

    Raises: InputError if matplotlib is not installed.
    """
    matplotlib()


def stage_colour(stage: str) -> str:
    """Returns the colour of a stage; grey if it is none.

    Example:
        >>> stage_colour("body"), stage_colour("other")
        ('#009e73', '#666666')
    """
    return _COLOURS.get(stage, OTHER)


def quiet(axis: Any, lines: str) -> None:
    """Gives an axis faint grid lines behind the plot, and no box; `lines`: x, y or both."""
    axis.grid(axis=lines, color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=7, length=2)
    axis.spines[["top", "right"]].set_visible(False)


def plain_text(text: str) -> str:
    """Keeps matplotlib from reading dollar signs as mathematics; it draws no controls.

    Example:
        >>> len(plain_text("a$b"))
        4
    """
    return printable(text).replace("$", r"\$")


def png(figure: Any) -> bytes:
    """Writes a figure as a PNG; the same figure gives the same bytes."""
    written = BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def matplotlib() -> tuple[Any, Any]:
    """Returns matplotlib's figure and canvas.

    Raises: InputError if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "plotting needs matplotlib, which is not installed: pip install 'gfx-compiler[plot]'"
        ) from error
    return Figure, FigureCanvasAgg
