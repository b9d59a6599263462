"""Laws of how many channels layers keep: counted in each layer's own inputs and outputs.

Who counts is the value that a layer reads or gives, position by position.
"""

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

import gfx
from gfx.compression.selection.by_name import by_kept
from gfx.contract import Outcome
from gfx.coupling import Groups, analyse
from gfx.coupling.labels import Mask
from gfx.ir.program import Program
from support.laws import law, pruned
from support.strategies import specs

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
bounded = st.fixed_dictionaries(
    {
        "ratio": st.sampled_from((0.5, 0.25, 0.75)),
        "scope": st.sampled_from(("local", "global")),
        "attention": st.sampled_from(("width", "heads")),
        "group_norm": st.sampled_from(("auto", "whole", "regroup")),
        "round_to": st.sampled_from((1, 2, 4, 8)),
        "min_channels": st.sampled_from((1, 4, 3)),
        "seed": st.integers(0, 3),
    }
)


def ends(program: Program) -> Iterator[tuple[str, str, fx.Node, int]]:
    """Lists what each layer writes and reads: its path, which, the node, and its channels' axis."""
    for node in program.graph.nodes:
        module = program.submodule(node) if node.op == "call_module" else None
        if isinstance(module, LAYERS):
            operand = next(n for n in node.all_input_nodes)
            for way, value in (("out", node), ("in", operand)):
                last = isinstance(module, nn.Linear)
                yield str(node.target), way, value, value.meta["val"].ndim - 1 if last else 1


def removal_of(groups: Groups, outcome: Outcome) -> Mask:
    removed, rest = by_kept(groups, groups.free, outcome.details.get("kept", {}))
    assert not rest
    return removed


def widths_by_group(groups: Groups, removed: Mask) -> Iterator[tuple[str, str, str, int, int]]:
    """Counts how many positions of each group every layer has, and keeps: (layer, way, group)."""
    for path, way, node, dim in ends(groups.program):
        ids = groups.labels_of(node, dim)
        if ids is None:
            continue
        roots = groups.roots[ids]
        for group in groups.free:
            mine = roots[np.isin(roots, group.roots)]
            if mine.size:
                yield path, way, group.name, mine.size, int((~removed[mine]).sum())


@law(20, swept=60)
@given(specs(approximate=True), bounded)
def test_every_layer_keeps_multiples_and_no_fewer_than_asked(spec, fields):
    before = gfx.trace(*spec.build())
    _, outcome = pruned(before, **fields)
    groups = analyse(before, attention=fields["attention"], group_norm=fields["group_norm"])
    said = {skip.node for skip in outcome.skips}
    for path, way, group, had, keeps in widths_by_group(groups, removal_of(groups, outcome)):
        if keeps < had:
            assert keeps % fields["round_to"] == 0, (path, way, group)
            assert keeps >= fields["min_channels"], (path, way, group)
        elif keeps % fields["round_to"] or keeps < fields["min_channels"]:
            assert group in said, (path, way, group)


@law(20, swept=60)
@given(specs(approximate=True), bounded)
def test_reported_widths_are_those_of_the_layers(spec, fields):
    before = gfx.trace(*spec.build())
    after, outcome = pruned(before, **fields)
    groups = analyse(before, attention=fields["attention"], group_norm=fields["group_norm"])
    removed = removal_of(groups, outcome)
    for change in outcome.changes:
        for program, told in ((before, change.before), (after, change.after)):
            found = dict(program.module.named_modules()).get(change.node)
            if isinstance(found, LAYERS):
                wide = getattr(found, "out_channels", getattr(found, "out_features", None))
                assert told == wide, change
    had, left = {}, {}
    for path, way, group, n, keeps in widths_by_group(groups, removed):
        if way == "out" and path == group.partition("#")[0]:
            had[group], left[group] = n, keeps
    rows = {row["group"]: row for row in outcome.details.get("groups", ())}
    for group in had:
        gone = rows[group]["removed"] if group in rows else 0
        assert had[group] - left[group] == gone
        assert groups[group].width == had[group]
    if rows:
        achieved = outcome.details["achieved"]
        assert achieved["removed"] == sum(row["removed"] for row in rows.values())
        assert achieved["of"] == sum(group.width for group in groups.free)
        assert achieved["ratio"] == achieved["removed"] / achieved["of"]
