"""docs/coverage.md from rows, and the rows' lines from it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch

from support.coverage_rows import Row

__all__ = ["COLUMNS", "SECTIONS", "cells", "line", "render", "split"]

SECTIONS = {
    "published": "Published generators",
    "zoo": "The reference generators of gfx",
    "patterns": "Patterns",
}
HEAD = """\
# What gfx makes of other people's generators

Written by `python benchmarks/coverage_bench.py`; do not edit. Small configurations in float64, on
torch {torch} and torch-pruning {peer}: the same models and inputs, in the same run.

- **front end**: `symbolic` or `export` (see architecture.md). The traced program equals the model
  to 1e-9 in every row that is not refused.
- **groups**: coupled channel groups. **channels**: those that may go, of all that layers exchange;
  the channels of the model's own inputs and outputs are not counted. **parameters**: the share
  that lies on a channel which may go.
- **outcome**: half of the channels of every free group were removed. *exact*: the result equals
  the original with what reads these channels set to zero, to 1e-9 (1e-6 where the model itself
  turns to float32). *approximate*: these channels
  pass through a statistic over channels, such as a LayerNorm, that no removal keeps; they equal
  the pass's own reference, and all others were judged as above. *own reference*: the independent
  oracle of the tests cannot follow this model, so that the pass's own reference alone judged.
- **supernet**: the groups that are elastic in a supernet, of those that may be narrowed. Its
  smallest subnet, and one that is drawn, equal the nets that are extracted at the same widths.
- **torch-pruning**: half of the channels by magnitude; the layers that write the outputs are
  ignored. *handled*: it ran and narrowed every layer that gfx narrowed. *partly*: it narrowed that
  share of them. *nothing*: it narrowed none and did not say so. *wrong shape*: the outputs changed
  their shape. *crash*: it raised, or left a model that does not run. *no end*: it was stopped after
  a minute. Whether its numbers are right was not looked at.
"""
COLUMNS = (
    "model",
    "front end",
    "groups",
    "channels",
    "parameters",
    "outcome",
    "supernet",
    "torch-pruning",
)


def render(sections: Mapping[str, Sequence[str]]) -> str:
    """Writes the file from the lines of its sections."""
    parts = [HEAD.format(torch=torch.__version__.partition("+")[0], peer=version("torch-pruning"))]
    for key, title in SECTIONS.items():
        lines = sections.get(key, ())
        if lines:
            head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
            parts += [f"## {title}\n\n{_summary(lines)}\n", "\n".join([head, *lines]) + "\n"]
    return "\n".join(parts)


def split(text: str) -> dict[str, list[str]]:
    """Finds the lines of each section of the file."""
    found: dict[str, list[str]] = {}
    for key, title in SECTIONS.items():
        body = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
        rows = [x for x in body.splitlines() if x.startswith("| ")][1:]
        found[key] = [x for x in rows if len(cells(x)) == len(COLUMNS)]  # not those of older files
    return found


def cells(text: str) -> list[str]:
    """Takes a line apart."""
    return [cell.strip() for cell in text.strip().strip("|").split("|")]


def line(row: Row) -> str:
    """Writes one row."""
    channels = f"{row.free} of {row.inner} ({_percent(row.share)})"
    values = (row.name, row.frontend, str(row.groups), channels, _percent(row.parameters))
    if row.outcome.startswith("refused"):
        values = (row.name, row.frontend, "-", "-", "-")
    return f"| {' | '.join((*values, _outcome(row), row.supernet, row.peer))} |"


def _summary(lines: Sequence[str]) -> str:
    rows = [cells(x) for x in lines]
    ours = Counter("refused" if r[5].startswith("refused") else "pruned" for r in rows)
    theirs = Counter(r[7].partition(" (")[0] for r in rows)
    said = ", ".join(f"{kind} {count}" for kind, count in theirs.most_common())
    whole = sum(r[6] == "all" for r in rows)
    refused = f", {ours['refused']} refused with a reason" if ours["refused"] else ""
    gfx = f"{ours['pruned']} pruned{refused}; {whole} supernets with every free group"
    return f"{len(rows)} models. gfx: {gfx}. torch-pruning: {said}."


def _outcome(row: Row) -> str:
    """Says how it went and, in short, why some channels are approximate or pinned."""
    parts = [_shorter(row.outcome, 300)]
    if row.outcome.startswith("exact"):
        parts = ["exact" if row.judged == "oracle" else f"exact ({row.judged})"]
    if row.marks:
        said = "; ".join(list(dict.fromkeys(_shorter(m) for m in row.marks))[:2])
        parts.append(f"{row.approximate} approximate: {said}")
    counted: Counter[str] = Counter()
    for why, count in row.pinned:
        counted[_shorter(why)] += count
    parts += [f"{count} pinned: {why}" for why, count in counted.most_common(2)]
    return "; ".join(parts).replace("|", "/")


def _shorter(text: str, length: int = 120) -> str:
    """Leaves out of a reason which node or module it is about."""
    text = re.sub(r"\b\w+(\.\w+)*\.\d+(\.\w+)* ?|\b[a-z]\w*_\d+\w* ?", "", text)
    return re.sub(r"\s+", " ", text).strip()[:length]


def _percent(share: float) -> str:
    return f"{int(share * 100)} %" if share < 1 else "all"
