"""Breaks text into lines of a screen: between words, and a name that is too wide at its dots.

Nothing is cut: the lines of a broken name, put together, are the name. Widths are those on a
screen, where a letter of Chinese, Japanese or Korean and most emoji take two columns.
"""

import re

__all__ = ["between_words", "display_width", "padded", "wrapped"]

_LEAST = 2  # columns: the widest letter


def wrapped(text: str, width: int) -> list[str]:
    """Breaks a line between words; what follows is indented further.

    Example:
        >>> wrapped("  left alone: a.very.long.name", 16)
        ['  left alone:', '    a.very.long.', '    name']
    """
    if display_width(text) <= width:
        return [text.rstrip()]
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return between_words(text, width, indent) or [""]


def between_words(text: str, width: int, indent: str = "") -> list[str]:
    """Breaks a line between words; those after the first begin with `indent`.

    A word that fits no line is broken behind its dots, or where it must be.

    Example:
        >>> between_words("a-b c", 3)
        ['a-b', 'c']
        >>> between_words("up.0.conv.weight", 6)
        ['up.0.', 'conv.', 'weight']
    """
    width = max(width, _LEAST)
    indent = indent[: min(width - _LEAST, max(width // 2, width - 24))]
    lines, line, blank = [], "", ""
    for part in re.split(r"(\s+)", text.rstrip()):
        if not part.strip():
            blank = part
        elif display_width(line + blank + part) <= width:
            line, blank = line + blank + part, ""
        else:
            if line.strip():
                lines.append(line)
            start = indent if lines else blank[: len(indent)]
            *whole, line = _pieces(part, width, start)
            lines += whole
            blank = ""
    return [*lines, line] if line.strip() else lines


def _pieces(word: str, width: int, indent: str) -> list[str]:
    """Breaks a word into lines that begin with `indent`, behind its dots where that is enough."""
    lines = [indent]
    for part in re.findall(r"[^.]*\.|[^.]+", word):
        letters = [part] if display_width(indent + part) <= width else part
        if len(letters) > 1 and lines[-1] != indent:
            lines.append(indent)
        for letter in letters:
            if display_width(lines[-1] + letter) > width and lines[-1] != indent:
                lines.append(indent)
            lines[-1] += letter
    return lines


def display_width(text: str) -> int:
    """Counts the columns that a text takes on a screen.

    Example:
        >>> display_width("conv"), display_width("層")
        (4, 2)
    """
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # it is slow to import, and few names need it

    return cell_len(text)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Fills a text with blanks up to a width on a screen.

    Example:
        >>> padded("層", 4), padded("12", 4, right=True)
        ('層  ', '  12')
    """
    blanks = " " * (width - display_width(text))
    return blanks + text if right else text + blanks
