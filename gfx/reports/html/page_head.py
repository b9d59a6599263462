"""Writes how every page begins: it asks nothing of the network, and runs its own script at most."""

from html import escape
from importlib.resources import files

__all__ = ["page_head"]


def page_head(title: str, *styles: str, scripts: bool = False) -> str:
    """Returns a page up to its body; `styles` come after those of all pages.

    Example:
        >>> page_head("a < b").splitlines()[7]
        '<title>a &lt; b</title>'
    """
    allowed = "style-src 'unsafe-inline'; " + "script-src 'unsafe-inline'; " * scripts
    css = "\n".join([files("gfx.reports.html").joinpath("style.css").read_text("utf-8"), *styles])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; {allowed}img-src data:">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{css}
</style>
</head>"""
