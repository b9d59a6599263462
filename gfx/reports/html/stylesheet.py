"""Returns the style sheet of all pages: light and dark, no file besides the page."""

from importlib.resources import files

__all__ = ["style"]


def style() -> str:
    """Returns the text of the style sheet.

    Example:
        >>> style().splitlines()[0]
        ':root {'
    """
    return files("gfx.reports.html").joinpath("style.css").read_text("utf-8").strip()
