"""Breaks text between words, for reports and for the screen."""

import textwrap

__all__ = ["between_words", "wrapped"]


def wrapped(text: str, width: int) -> list[str]:
    """Breaks a line between words; what follows is indented further. A name is never broken.

    Example:
        >>> wrapped("  left alone: a.very.long.name", 16)
        ['  left alone:', '    a.very.long.name']
    """
    if len(text) <= width:
        return [text.rstrip()]
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return between_words(text, width, indent) or [""]


def between_words(text: str, width: int, indent: str = "") -> list[str]:
    """Breaks a line between words; those after the first begin with `indent`.

    Example:
        >>> between_words("a-b c", 1)
        ['a-b', 'c']
    """
    return textwrap.wrap(
        text,
        max(width, 1),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
