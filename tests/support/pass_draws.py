"""Draws passes with parameters worth varying, and applies them."""

from hypothesis import reject
from hypothesis import strategies as st
from torch import fx, nn

import gfx
from gfx.contract import Pass

VARIED: dict[str, dict[str, st.SearchStrategy]] = {
    "fold_masks": {"layout": st.sampled_from(("dense", "csr"))},
    "channel_prune": {
        "ratio": st.sampled_from((0.5, 0.25, 0.75)),
        "importance": st.sampled_from(("l1", "l2", "random", "fpgm", "lamp", "taylor", "fisher")),
        "reduce": st.sampled_from(("mean", "sum", "max", "first")),
        "batches": st.just(1),
        "scope": st.sampled_from(("local", "global", "isomorphic")),
        "attention": st.sampled_from(("width", "heads")),
        "group_norm": st.sampled_from(("whole", "regroup")),
        "round_to": st.sampled_from((1, 2)),
        "min_channels": st.sampled_from((1, 4)),
    },
    "decompose": {
        "kind": st.sampled_from(("depthwise_separable", "spatial", "tucker", "low_rank")),
        "rank": st.sampled_from((None, 1, 0.5)),
    },
    "distill_taps": {"layers": st.sampled_from(("auto", ("*",)))},
    "mask": {
        "granularity": st.sampled_from(("channel", "filter", "element")),
        "sparsity": st.sampled_from((0.5, 0.75)),
        "one_shot": st.booleans(),
        "min_channels": st.sampled_from((1, 4)),
        "scope": st.sampled_from(("local", "global")),
    },
}


def drawn(data: st.DataObject, kind: type[Pass]) -> Pass:
    fields = VARIED.get(kind.name, {})
    return kind(**{name: data.draw(values, label=name) for name, values in fields.items()})


def applied(pass_: Pass, model: nn.Module, inputs: tuple, verify: bool = False) -> fx.GraphModule:
    """Runs one pass; a program that it refuses, in words, is no example."""
    recipe = {"recipe": 1, "seed": 0, "passes": [pass_.spec()]}
    data = [inputs, inputs] if pass_.needs_data else None
    try:
        return gfx.apply(recipe, model, example_inputs=inputs, data=data, verify=verify)
    except gfx.PreconditionError as error:
        if str(error).startswith(pass_.name):
            reject()
        raise
