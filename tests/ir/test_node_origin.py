"""Which activation of the original program a node stands for, and what of it is left."""

import copy
import pickle

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

import gfx
from gfx.ir.node_origin import Origin, forget, narrow, origin, origin_in, stands_for
from gfx.ir.ops import op_name
from gfx.ir.program import Program
from passes.channel_prune import ChannelPrune
from passes.fuse_batch_norm import FuseBatchNorm
from support.laws import law, pruned
from support.strategies import specs


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3)
    return nn.Sequential(*layers).eval()


def traced() -> Program:
    return gfx.trace(net(), torch.randn(1, 3, 9, 9))


def named(program: Program, name: str) -> fx.Node:
    return next(node for node in program.nodes() if node.name == name)


def test_a_node_stands_for_itself_until_something_else_is_recorded():
    program = traced()
    assert origin(named(program, "_0")) == Origin("_0")


def test_a_removal_records_what_is_left_of_every_layer():
    program = traced()
    ChannelPrune(kept={"0": (0, 2, 3, 7)}).apply(program, gfx.Context())
    for name in ("_0", "_1", "_2"):
        assert origin(named(program, name)) == Origin(name, {1: (0, 2, 3, 7)})
    assert origin(named(program, "_3")) == Origin("_3")


def test_a_second_removal_counts_in_the_channels_of_the_original():
    program = traced()
    ChannelPrune(kept={"0": (0, 2, 3, 7)}).apply(program, gfx.Context())
    ChannelPrune(kept={"0": (1, 3)}).apply(program, gfx.Context())
    assert origin(named(program, "_0")) == Origin("_0", {1: (2, 7)})


def test_a_folded_layer_stands_for_the_norm():
    program = traced()
    ChannelPrune(kept={"0": (0, 5)}).apply(program, gfx.Context())
    FuseBatchNorm().apply(program, gfx.Context())
    assert origin(named(program, "_0")) == Origin("_1", {1: (0, 5)})


def test_copies_keep_the_record_and_share_nothing():
    program = traced()
    ChannelPrune(kept={"0": (0, 2)}).apply(program, gfx.Context())
    for twin in (program.copy().module, copy.deepcopy(program.module)):
        node = next(n for n in twin.graph.nodes if n.name == "_0")
        assert origin(node) == Origin("_0", {1: (0, 2)})
        narrow(node, {1: (1,)})
        assert origin(named(program, "_0")) == Origin("_0", {1: (0, 2)})


def test_results_carry_no_record():
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5}}]}
    small = gfx.apply(recipe, net(), torch.randn(1, 3, 9, 9))
    assert not any("gfx_origin" in node.meta for node in small.graph.nodes)
    assert pickle.loads(pickle.dumps(small)) is not None


def test_what_stands_for_nothing_stays_so():
    program = traced()
    node = named(program, "_0")
    stands_for(node, None)
    narrow(node, {1: (0,)})
    assert origin(node) is None
    assert origin_in(traced(), node) is None
    forget(program)
    assert origin(node) == Origin("_0")


def test_a_node_that_only_shares_a_name_stands_for_nothing():
    program = traced()
    node = named(program, "_0")
    node.target = "3"
    assert origin_in(traced(), node) is None


class Record(fx.Interpreter):
    """Runs a program and keeps what every node gives."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.module, garbage_collect_values=False)

    def given(self, inputs: tuple) -> dict[str, object]:
        with torch.no_grad():
            self.run(*inputs)
        return {node.name: value for node, value in self.env.items()}


@law(12, swept=25)
@given(specs(), st.sampled_from((0.5, 0.25)), st.integers(0, 3))
def test_what_is_left_of_the_original_has_the_shape_of_what_stands_for_it(spec, ratio, seed):
    before = gfx.trace(*spec.build())
    after, _ = pruned(before, ratio=ratio, seed=seed)
    inputs = spec.inputs(3)
    wanted, got = Record(before).given(inputs), Record(after).given(inputs)
    for node in after.nodes():
        found = origin_in(before, node)
        if found is None or not isinstance(got[node.name], torch.Tensor):
            continue
        if node.op == "call_module" or op_name(node) in ("add", "cat", "relu"):
            value = wanted[found[0].name]
            if value.shape[0] == 3 or not found[1].kept:
                assert found[1].of(value).shape == got[node.name].shape, node.name
