"""Draws the network as SVG, top to bottom: each layer as wide as its channels.

1. The original channels of a layer are an outline, the current ones filled; the colour is that of
   its channel group.
2. An edge to the next element is a vertical line, any other an arc at the right, wider if longer.
3. Pointing at a layer, tapping it or focusing it by keyboard highlights its whole group, by style
   alone: each layer and the text about its group have the group's class.
"""

from collections.abc import Mapping, Sequence
from html import escape

from gfx.costs import human
from gfx.reports.result.facts import ResultFacts
from gfx.reports.result.group_colours import Family, family_of
from gfx.reports.result.layer_table import Pair
from gfx.reports.result.network import Element

__all__ = ["drawn", "rules"]

_WIDTH = 700
_NAME, _COUNT, _CENTRE, _HALF, _RIGHT = 66, 268, 408, 128, 548  # places along the width
_ARCS = _WIDTH - _RIGHT - 8
_ROOMY, _TIGHT, _MANY = 22, 15, 60  # height of a layer; from how many layers on it is tight
_JOIN = 11
_LETTERS = 25  # of a layer's name


def drawn(facts: ResultFacts) -> str:
    """Returns the network as SVG."""
    rows = _Rows(facts)
    body = "".join([*rows.stages(), *rows.edges(), *rows.elements()])
    count = len(facts.pairs)
    label = f"{count} layers from the input at the top to the output at the bottom"
    return (
        f'<svg class="net" viewBox="0 0 {_WIDTH} {rows.height}" role="group" '
        f'aria-label="{escape(label)}">{body}</svg>'
    )


def rules(families: Sequence[Family]) -> str:
    """Returns the style rules that colour each group, and highlight it under the pointer."""
    lines = []
    for family in families:
        name, at = f".g{family.number}", ":is(:hover, :focus)"
        if family.pinned is None:
            lines.append(f"{name} {{ --group: oklch(.69 .135 {family.hue}); }}")
        lines.append(f".map:has({name}{at}) :is(.row, .arc):not({name}) {{ opacity: .22; }}")
        lines.append(f".map:has({name}{at}) #about-{family.number} {{ display: block; }}")
    return "\n".join(lines)


class _Rows:
    """Places each element."""

    def __init__(self, facts: ResultFacts) -> None:
        self.facts = facts
        self.pairs = {pair.now.node: pair for pair in facts.pairs}
        self.families = {
            pair.now.node: family_of(facts.families, pair.now.path) for pair in facts.pairs
        }
        self.given = _given(facts, self.families)
        self.step = _ROOMY if len(facts.pairs) < _MANY else _TIGHT
        self.tops: list[float] = []
        top = 6.0
        for element in facts.network.elements:
            self.tops.append(top)
            top += _JOIN if element.kind == "join" else self.step
        self.height = int(top + 8)
        widths = [self._widths(pair) for pair in facts.pairs]
        self.widest = max((w for pair in widths for w in pair if w), default=1)

    def _widths(self, pair: Pair) -> tuple[int | None, int]:
        """Returns the channels of a layer before and now, counting a latent's map once."""
        family = self.families[pair.now.node]
        if family is not None and family.was is not None and family.now * 4 <= pair.now.outputs:
            return family.was, family.now  # a linear whose features become a map of channels
        return (pair.was.outputs if pair.was else None), pair.now.outputs

    def middle(self, number: int) -> float:
        """Returns the middle of an element's row."""
        element = self.facts.network.elements[number]
        return self.tops[number] + (_JOIN if element.kind == "join" else self.step) / 2

    def half(self, number: int) -> float:
        """Returns how far an element reaches from the centre."""
        element = self.facts.network.elements[number]
        if element.kind != "layer":
            return 5.0
        was, now = self._widths(self.pairs[element.node])
        return self._length(max(was or 0, now))

    def _length(self, channels: int) -> float:
        return max(_HALF * channels / self.widest, 1.5)

    def stages(self) -> list[str]:
        """The names of the stages at the left, each over its layers."""
        found, at = [], 0
        elements = self.facts.network.elements
        runs: list[tuple[str, int, int]] = []
        for number, element in enumerate(elements):
            if element.kind != "layer":
                continue
            stage = self.pairs[element.node].stage
            if runs and runs[-1][0] == stage:
                runs[-1] = (stage, runs[-1][1], number)
            else:
                runs.append((stage, number, number))
        for stage, first, last in runs:
            top, at = self.tops[first], int(self.tops[last] + self.step)
            found.append(
                f'<g class="{escape(stage)}"><rect class="band" x="4" y="{top + 2:.1f}" width="5" '
                f'height="{at - top - 4:.1f}" rx="2"/>'
                f'<text x="16" y="{top + self.step / 2 + 4:.1f}">{escape(stage)}</text></g>'
            )
        return found

    def edges(self) -> list[str]:
        """Lines down where the next element reads, arcs where a later one does (rule 2)."""
        found = []
        for edge in self.facts.network.edges:
            top, bottom = self.middle(edge.source), self.middle(edge.target)
            if edge.target == edge.source + 1:
                found.append(f'<path class="wire" d="M{_CENTRE} {top:.1f}V{bottom:.1f}"/>')
                continue
            bulge = _RIGHT + min(_ARCS, 10 + 0.22 * (bottom - top)) * 4 / 3
            starts = (_CENTRE + self.half(edge.source), _CENTRE + self.half(edge.target))
            family = self.given[edge.source]
            css = f"arc g{family.number}" if family else "arc"
            found.append(
                f'<path class="{css}" d="M{starts[0]:.1f} {top:.1f}H{_RIGHT}C{bulge:.1f} '
                f'{top:.1f} {bulge:.1f} {bottom:.1f} {_RIGHT} {bottom:.1f}H{starts[1]:.1f}"/>'
            )
        return found

    def elements(self) -> list[str]:
        """The layers, the places where branches meet, input and output."""
        shown = []
        for number, element in enumerate(self.facts.network.elements):
            if element.kind == "layer":
                shown.append(self._layer(number, self.pairs[element.node]))
            else:
                shown.append(self._other(number, element))
        return shown

    def _layer(self, number: int, pair: Pair) -> str:
        was, now = self._widths(pair)
        middle, family = self.middle(number), self.families[pair.now.node]
        tall = self.step - 8
        boxes = "".join(
            f'<rect class="{css}" x="{_CENTRE - length:.1f}" y="{middle - tall / 2:.1f}" '
            f'width="{2 * length:.1f}" height="{tall}" rx="2"/>'
            for css, length in self._boxes(was, now)
        )
        css = "row" if family is None else f"row g{family.number}"
        label = _label(pair, family)
        count = f"{now}" if was is None or was == now else f"{was} → {now}"
        return (
            f'<g class="{css}" tabindex="0" role="img" aria-label="{escape(label)}">'
            f"<title>{escape(label)}</title>"
            f'<rect class="touch" x="12" y="{middle - self.step / 2:.1f}" '
            f'width="{_RIGHT - 12}" height="{self.step}"/>'
            f'<text class="name" x="{_NAME}" y="{middle + 4:.1f}">{escape(_short(pair))}</text>'
            f'<text x="{_COUNT}" y="{middle + 4:.1f}" text-anchor="end">{count}</text>{boxes}</g>'
        )

    def _boxes(self, was: int | None, now: int) -> list[tuple[str, float]]:
        boxes = [("now", self._length(now))]
        return boxes if was is None else [("was", self._length(was)), *boxes]

    def _other(self, number: int, element: Element) -> str:
        middle = self.middle(number)
        if element.kind == "join":
            label = f"{element.node}: several branches meet ({element.sign})"
            return (
                f'<g class="join"><title>{escape(label)}</title>'
                f'<circle cx="{_CENTRE}" cy="{middle:.1f}" r="4.5"/>'
                f'<text x="{_CENTRE}" y="{middle + 3:.1f}" text-anchor="middle">'
                f"{escape(element.sign[:4])}</text></g>"
            )
        return (
            f'<text class="end" x="{_CENTRE}" y="{middle + 4:.1f}" text-anchor="middle">'
            f"{escape(element.kind if element.kind == 'output' else element.node[:24])}</text>"
        )


def _given(facts: ResultFacts, families: Mapping[str, Family | None]) -> list[Family | None]:
    """Finds the group of each element's value; where branches meet, that of the first."""
    sources: dict[int, int] = {}
    for edge in facts.network.edges:
        sources.setdefault(edge.target, edge.source)
    given: list[Family | None] = []
    for number, element in enumerate(facts.network.elements):
        if element.kind == "join" and number in sources:
            given.append(given[sources[number]])
        else:
            given.append(families.get(element.node))
    return given


def _short(pair: Pair) -> str:
    path = pair.now.path
    return path if len(path) <= _LETTERS else f"…{path[1 - _LETTERS :]}"


def _label(pair: Pair, family: Family | None) -> str:
    """Writes a layer's original and current width, and its group."""
    now, was = pair.now, pair.was
    size = "x".join(map(str, now.shape[2:]))
    parts = [f"{now.path}: {now.kind} of stage {pair.stage}{f', {size}' if size else ''}"]
    if was is None:
        if pair.part_of:
            parts.append(f"a part of what was {pair.part_of}")
        parts += [f"channels {now.inputs} in, {now.outputs} out", f"{human(now.macs.exact)} MACs"]
    else:
        parts.append(f"channels in {was.inputs} → {now.inputs}, out {was.outputs} → {now.outputs}")
        parts.append(f"MACs {human(was.macs.exact)} → {human(now.macs.exact)}")
    if family is not None:
        state = f"not to be removed: {family.pinned}" if family.pinned else "may be removed"
        parts.append(f"channel group {family.name}: {family.now} channels, {state}")
    return "; ".join(parts)
