"""Recommends a change for each row, and sorts the rows.

1. An option may be recommended if it saves MACs and its damage is tolerated.
2. Of these, the one that saves the most MACs; of equals, the one of least damage.
3. None: leave the layer.
4. Rows with a recommendation come first, then the others; by MACs saved per damage, the most first.
"""

from collections.abc import Iterable
from dataclasses import replace

from gfx.sensitivity.rows import DECOMPOSE, LEAVE, Key, Row, narrowed

__all__ = ["advised", "ranked"]


def advised(row: Row, tolerate: float) -> Row:
    """Returns the row with a recommendation (rules 1 to 3).

    `worth` on a row is MACs saved per damage; a larger `tolerate` only ever saves more.
    """
    options: list[tuple[int, float, Key]] = []
    for key, damage in row.damage.items():
        saved = row.saved.get(key)
        if damage is not None and saved is not None and saved > 0 and damage <= tolerate:
            options.append((saved, damage, key))
    if not options:
        return replace(row, recommend=LEAVE, choice=None)
    _, _, key = max(options, key=lambda option: (option[0], -option[1]))
    advice = DECOMPOSE if isinstance(key, str) else narrowed(row.widths[key])
    return replace(row, recommend=advice, choice=key)


def ranked(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Sorts rows by worth (rule 4)."""
    return tuple(sorted(rows, key=lambda row: (row.choice is None, -row.worth)))
