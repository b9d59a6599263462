"""Shows the pictures of a run: of each stage the newest, row by row, earlier ones folded.

1. Each picture is in the page once, as it is in its file; parts of it are shown by style rules.
2. The pictures of a page have a bound; what is left out is said.
3. Teacher and student are side by side; with a script one lies over the other, and a slider wipes
   between them.
"""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

from gfx.errors import GfxError
from gfx.io.guards import printable, reason
from gfx.reports.run.run_facts import FolderFacts, StageFacts
from gfx.train.runs.sample_grids import GridLayout, layout_of

__all__ = ["Pictures", "pictures_of"]

_MOST_BYTES = 6 << 20  # of all pictures; the page holds them as text, a third larger
_EARLIER = 6  # pictures of a stage beside the newest
_ROWS = 16  # examples that are shown one by one
_SMALL = 160  # pixels; smaller images are enlarged without blurring
_WIPED = ("teacher", "student")


@dataclass(frozen=True)
class Pictures:
    """The section of the pictures, and the style rules that hold them."""

    html: str
    rules: str


@dataclass(frozen=True)
class _ShownGrid:
    step: int
    data: bytes
    layout: GridLayout | None
    rows: int

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


class _PictureReader:
    """Reads pictures as long as there is room (rule 2)."""

    def __init__(self) -> None:
        self.room = _MOST_BYTES
        self.left_out = 0
        self.faults: list[str] = []

    def read(self, step: int, path: Path) -> _ShownGrid | None:
        try:
            if path.stat().st_size > self.room:
                self.left_out += 1
                return None
            data = path.read_bytes()
            layout = layout_of(data)
        except (OSError, GfxError) as error:
            self.faults.append(f"{printable(path.name)} cannot be shown ({reason(error)})")
            return None
        self.room -= len(data)
        height = int.from_bytes(data[20:24])
        return _ShownGrid(step, data, layout, 0 if layout is None else height // layout.height)


def pictures_of(facts: FolderFacts) -> Pictures:
    """Returns the pictures of all stages, the last stage first."""
    reader = _PictureReader()
    with_any = [stage for stage in reversed(facts.stages) if stage.samples]
    newest = {stage.number: reader.read(*stage.samples[-1]) for stage in with_any}
    earlier = {stage.number: _earlier(stage, reader) for stage in with_any}
    parts, rules = [], ""
    for stage in with_any:
        first = newest[stage.number]
        shown, rule = ("", "") if first is None else _newest(stage, first)
        rules += rule
        folded = "".join(map(_whole, earlier[stage.number]))
        if folded:
            count = len(earlier[stage.number])
            of = len(stage.samples) - 1
            said = f"earlier: {count} of {of}" if count < of else f"earlier: {count}"
            folded = f"<details><summary>{said}</summary>{folded}</details>"
        parts.append(f"<article>{shown}{folded}</article>")
    notes = list(reader.faults)
    if reader.left_out:
        notes.append(
            f"{reader.left_out} pictures are left out, to keep the page below "
            f"{_MOST_BYTES >> 20} MB of them; they are in samples/."
        )
    if not with_any:
        notes.append("There are no pictures: none was made yet, or the outputs are no images.")
    return Pictures(
        "".join(parts) + "".join(f'<p class="note">{escape(note)}</p>' for note in notes), rules
    )


def _earlier(stage: StageFacts, reader: _PictureReader) -> list[_ShownGrid]:
    """Returns some pictures of before the newest, the first among them, newest first."""
    before = stage.samples[:-1]
    count = min(_EARLIER, len(before))
    places = sorted({round(k * (len(before) - 1) / max(count - 1, 1)) for k in range(count)})
    read = (reader.read(*before[place]) for place in reversed(places))
    return [grid for grid in read if grid is not None]


def _whole(grid: _ShownGrid) -> str:
    """Returns a picture as it is in its file."""
    columns = "" if grid.layout is None else f": {', '.join(grid.layout.columns)}"
    said = escape(f"step {grid.step:,}{columns}")
    wide = "" if grid.layout is None else f' style="width:{8 * len(grid.layout.columns)}rem"'
    return (
        f'<figure class="whole"><figcaption>{said}</figcaption>'
        f'<img src="{grid.uri}" alt="{said}" loading="lazy"{wide}></figure>'
    )


def _newest(stage: StageFacts, grid: _ShownGrid) -> tuple[str, str]:
    """Returns a picture row by row, and the style rule that holds it (rule 1)."""
    heading = f"<h3>{escape(stage.name)}, after step {grid.step:,}</h3>"
    if grid.layout is None:
        return heading + _whole(grid), ""
    css = f"g{stage.number}"
    small = "image-rendering:pixelated;" if grid.layout.width < _SMALL else ""
    rule = (
        f".{css}{{background-image:url({grid.uri});{small}"
        f"background-size:{100 * len(grid.layout.columns)}% {100 * grid.rows}%;"
        f"aspect-ratio:{grid.layout.width}/{grid.layout.height}}}\n"
    )
    rows = "".join(_row(grid, row, css, stage.name) for row in range(min(grid.rows, _ROWS)))
    return heading + rows, rule


def _row(grid: _ShownGrid, row: int, css: str, stage: str) -> str:
    """Returns one example: input, teacher and student, difference, truth (rule 3)."""
    assert grid.layout is not None
    columns = grid.layout.columns
    cells = {name: _cell(grid, row, at, css) for at, name in enumerate(columns)}
    if set(_WIPED) <= cells.keys():
        label = escape(f"{stage}, example {row + 1}: how much of the teacher is shown")
        both = cells.pop("teacher") + cells.pop("student")
        slider = (
            f'<div class="wipe">{both}<input type="range" min="0" max="100" step="1" value="50" '
            f'aria-label="{label}" hidden></div>'
        )
        place = sum(1 for name in columns[: columns.index("teacher")] if name in cells)
        shown = list(cells.values())
        shown.insert(place, slider)
    else:
        shown = list(cells.values())
    return f'<div class="example">{"".join(shown)}</div>'


def _cell(grid: _ShownGrid, row: int, column: int, css: str) -> str:
    assert grid.layout is not None
    name = grid.layout.columns[column]
    x = 100 * column / max(len(grid.layout.columns) - 1, 1)
    y = 100 * row / max(grid.rows - 1, 1)
    return (
        f'<figure class="{escape(name) if name in _WIPED else "beside"}">'
        f'<div class="part {css}" role="img" aria-label="{escape(f"{name} of example {row + 1}")}" '
        f'style="background-position:{x:.4f}% {y:.4f}%"></div>'
        f"<figcaption>{escape(name)}</figcaption></figure>"
    )
