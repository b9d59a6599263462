"""Builds cells of an HTML table: escaped text, sortable numbers, bars."""

from html import escape

from gfx.costs import human

__all__ = ["UP", "WORDS", "badge", "bar", "cell", "fact", "head", "moved_fact", "row_head"]

WORDS, UP = "data-words", "data-up"  # a column of text; numbers of which the small ones come first


def cell(
    text: str,
    value: float | str | None = None,
    *,
    css: str = "",
    extra: str = "",
    hint: str = "",
    label: str = "",
) -> str:
    """Returns a table cell.

    Args:
        text: the visible text.
        value: the sort key; None: it has no value, and comes last either way.
        css: its classes.
        extra: HTML that follows the text, such as a bar; not escaped.
        hint: the tooltip.
        label: the head of its column, which narrow screens show in the cell.

    Example:
        >>> cell("<conv>", "<conv>")
        '<td data-v="&lt;conv&gt;">&lt;conv&gt;</td>'
    """
    sorts = "" if value is None else f' data-v="{escape(_plain(value))}"'
    classes = f' class="{escape(css)}"' if css else ""
    title = f' title="{escape(hint)}"' if hint else ""
    named = f' data-label="{escape(label)}"' if label else ""
    return f"<td{classes}{sorts}{title}{named}>{escape(text)}{extra}</td>"


def head(text: str, at: int, *, sorts: str = "", css: str = "", rows: int = 1) -> str:
    """Returns the head of a column, which sorts by a click.

    Args:
        text: the name of the column.
        at: the number of the cell in a row to sort by.
        sorts: WORDS, UP, or "" for numbers of which the large ones come first.
        css: its classes.
        rows: how many rows of the head it spans.

    Example:
        >>> head("MACs", 3)
        '<th scope="col" data-at="3"><button type="button">MACs</button></th>'
    """
    classes = f' class="{escape(css)}"' if css else ""
    spans = f' rowspan="{rows}"' if rows > 1 else ""
    how = f" {sorts}" if sorts else ""
    return (
        f'<th scope="col"{classes}{spans} data-at="{at}"{how}>'
        f'<button type="button">{escape(text)}</button></th>'
    )


def row_head(text: str, extra: str = "") -> str:
    """Returns the head cell of a row; `extra` is HTML, not escaped.

    Example:
        >>> row_head("stem")
        '<th scope="row" data-v="stem">stem</th>'
    """
    return f'<th scope="row" data-v="{escape(text)}">{escape(text)}{extra}</th>'


def bar(share: float, css: str = "") -> str:
    """Returns a bar that is filled to a share of its length.

    Example:
        >>> bar(0.5)
        '<span class="bar" aria-hidden="true"><i style="width:50.0%"></i></span>'
    """
    width = 100 * min(max(share, 0.0), 1.0)
    kind = f"bar {css}".rstrip()
    return f'<span class="{kind}" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'


def badge(stage: str) -> str:
    """Returns the name of a stage in its colour.

    Example:
        >>> badge("up")
        '<span class="stage up">up</span>'
    """
    return f'<span class="stage {escape(stage)}">{escape(stage)}</span>'


def fact(name: str, text: str, extra: str = "") -> str:
    """Returns one entry of a list of facts; `extra` is HTML, not escaped.

    Example:
        >>> fact("seed", "0")
        '<div><dt>seed</dt><dd>0</dd></div>'
    """
    return f"<div><dt>{escape(name)}</dt><dd>{escape(text)}{extra}</dd></div>"


def moved_fact(name: str, old: int | None, new: int, unit: str = "") -> str:
    """Returns a fact of what a number was and is, with the ratio in words and as a bar.

    Example:
        >>> moved_fact("MACs", None, 2_000)
        '<div><dt>MACs</dt><dd>2.00 K</dd></div>'
    """
    text = human(new, unit) if old is None else f"{human(old, unit)} → {human(new, unit)}"
    if not old:
        return fact(name, text)
    times = (
        f"{old / new:.2f}\N{MULTIPLICATION SIGN} less"
        if 0 < new < old
        else f"{new / old:.1%} of it"
    )
    said = "the same" if new == old else times
    return fact(name, text, f' <span class="times">{escape(said)}</span>{bar(new / old, "saving")}')


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else repr(float(value))
