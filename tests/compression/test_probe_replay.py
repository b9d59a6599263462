"""What a replay counts, keeps, refuses and leaves behind."""

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

import gfx
from gfx.compression.probe import Narrowing, Replacement, Replay
from gfx.compression.selection import Bounds, weakest
from gfx.costs import cost_of
from gfx.coupling.removal import masked, remove
from gfx.io.data import synthetic, synthetic_note
from gfx.ir.execute import distance, run
from gfx.ir.ops import is_inplace
from support.laws import law
from support.probe_checks import Scaled, changes_alone, equal, layers
from support.strategies import specs
from support.zoo_small import SMALL


def small(name: str) -> gfx.Program:
    torch.manual_seed(0)
    model = gfx.zoo.build(name, **SMALL[name]).double()
    inputs = gfx.zoo.example_inputs(name, **SMALL[name])
    return gfx.trace(model, torch.utils._pytree.tree_map(doubled, inputs))


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x


def relative(teacher: torch.Tensor, student: torch.Tensor) -> float:
    return float((student - teacher).norm() / teacher.norm())


def descendants(program: gfx.Program, names: set[str]) -> set[str]:
    found = set(names)
    for node in program.nodes():
        if any(source.name in found for source in node.all_input_nodes):
            found.add(node.name)
    return found


@law(6, swept=12)
@given(specs())
def test_no_node_runs_but_those_after_a_change(spec):
    program = gfx.trace(*spec.build())
    if any(is_inplace(n) for n in program.nodes()):
        return
    rows = {row.node: row.macs.exact for row in cost_of(program).nodes}
    replay = Replay(program, [program.example_inputs])
    assert replay.spent == {"forwards": sum(rows.values()), "suffixes": 0}
    changes = changes_alone(program, 6)
    replay.run_all(changes)
    reached = [descendants(program, {n.name for n in c.steps(program)}) for c in changes]
    assert [{n.name for n in replay.affected(c)} for c in changes] == reached
    necessary = sum(rows.get(name, 0) for names in reached for name in names)
    assert replay.spent["suffixes"] == necessary
    assert replay.spent["forwards"] <= 2 * sum(rows.values())


def test_changes_of_layers_cost_one_forward_in_all():
    program = small("resnet_9blocks")
    replay = Replay(program, [program.example_inputs])
    replay.run_all([Replacement({n: Scaled(program.submodule(n))}) for n in layers(program)])
    assert replay.spent["forwards"] == cost_of(program).macs.exact


@pytest.mark.parametrize("memory", [2 << 30, 20_000, 0])
def test_rows_do_not_depend_on_the_order_in_which_layers_are_probed(memory):
    program = small("unet_256")
    batches = synthetic(program, 2)
    changes = changes_alone(program, 5)
    expected = Replay(program, batches).damages(changes, relative)
    alone = Replay(program, batches, memory=memory)
    expected = pytest.approx(expected, rel=1e-9)
    assert [alone.damage(change, relative) for change in changes] == expected
    order = np.random.default_rng(0).permutation(len(changes))
    mixed = Replay(program, batches, memory=memory).damages([changes[i] for i in order], relative)
    assert [mixed[list(order).index(i)] for i in range(len(changes))] == expected


def test_what_is_kept_stays_within_the_memory():
    program = small("resnet_9blocks")
    batches = synthetic(program, 3)
    changes = changes_alone(program, 99)
    free = Replay(program, batches)
    whole = free._runs.held.used
    tight = Replay(program, batches, memory=whole // 5)
    seen = []
    tight.each(changes, lambda *_: seen.append(tight._runs.held.used))
    assert max(seen) <= whole // 5
    assert equal(tight.run_all(changes), free.run_all(changes))
    assert tight.spent["suffixes"] == 2 * free.spent["suffixes"]


def test_a_group_that_is_narrowed_equals_the_really_pruned_program():
    program = small("resnet_9blocks")
    groups = gfx.channels(program)
    replay = Replay(program, [program.example_inputs])
    for group in groups.free:
        removed = weakest(groups, group, 0.5)
        pruned = program.copy()
        remove(pruned, gfx.channels(pruned), removed)
        (output,) = replay.run(Narrowing(groups, removed))
        assert distance(run(pruned, program.example_inputs), output) < 1e-9


def test_groups_of_a_copy_will_do():
    program = small("dcgan")
    copy = program.copy()
    groups = gfx.channels(copy)
    removed = weakest(groups, groups.free[0], 0.5)
    masked(copy, gfx.channels(copy), removed)
    (output,) = Replay(program, [program.example_inputs]).run(Narrowing(groups, removed))
    assert equal(run(copy, program.example_inputs), output)


def test_nothing_is_left_behind():
    program = gfx.trace(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.ones(1, 3, 8, 8)
    )
    program.module.train()
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {k: v.clone() for k, v in [*program.module.state_dict().items()]}
    state, own = torch.get_rng_state(), {k: v.clone() for k, v in other.state_dict().items()}
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    replay = Replay(program, [(x,)])
    (output,) = replay.run(Replacement({layers(program)[0]: other}))
    assert not output.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in program.module.state_dict().items())
    assert all(torch.equal(v, own[k]) for k, v in other.state_dict().items())
    assert program.module.training
    assert other.training
    assert other[1].training


def test_a_metric_may_write_into_what_it_is_given():
    program = small("dcgan")
    replay = Replay(program, [program.example_inputs])
    change = Replacement({layers(program)[1]: Scaled(program.submodule(layers(program)[1]))})
    expected = replay.damage(change, relative)

    def greedy(teacher: torch.Tensor, student: torch.Tensor) -> float:
        scale = float(teacher.norm())
        return float(student.sub_(teacher.mul_(1)).norm() / teacher.zero_().add_(scale).max())

    for _ in range(2):
        assert replay.damage(change, greedy) == pytest.approx(expected)


def test_a_change_that_reaches_nothing_gives_the_original_output():
    program = small("dcgan")
    replay = Replay(program, [program.example_inputs])
    groups = gfx.channels(program)
    nothing = Narrowing(groups, groups.none_removed())
    assert replay.damage(nothing, relative) == 0
    assert replay.affected(nothing) == ()
    assert replay.macs(nothing) == 0


def test_batches_the_graph_does_not_take_are_cut():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x).view(2, 4, 64).mean(2)

    program = gfx.trace(Fixed(), torch.ones(2, 3, 8, 8))
    replay = Replay(program, [(torch.randn(5, 3, 8, 8),), (torch.randn(2, 3, 8, 8),)])
    assert [len(x) for (x,) in replay.batches] == [2, 2, 2]
    assert [y.shape for y in replay.outputs] == [(2, 4)] * 3
    with pytest.raises(gfx.InputError, match="does not run on batch 1, of shape 1x3x8x8"):
        Replay(program, [(torch.randn(2, 3, 8, 8),), (torch.randn(1, 3, 8, 8),)])


def test_a_program_on_the_meta_device_is_refused():
    with torch.device("meta"):
        program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
    with pytest.raises(gfx.PreconditionError, match="probing runs the model, and it is on"):
        Replay(program, [program.example_inputs])


def test_values_that_are_not_finite_name_the_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1))
    program = gfx.trace(model, torch.ones(1, 3, 8, 8))
    with torch.no_grad():
        program.module.get_submodule("2").bias[1] = torch.nan
    with pytest.raises(gfx.InputError, match="not finite on batch 0: 2 is the first"):
        Replay(program, [program.example_inputs])
    with torch.no_grad():
        program.module.get_submodule("2").bias[1] = 0
    bad = torch.ones(1, 3, 8, 8)
    bad[0, 0, 0, 0] = torch.inf
    with pytest.raises(gfx.InputError, match=r"data: batch 1: .* holds values that are not"):
        Replay(program, [program.example_inputs, (bad,)])
    replay = Replay(program, [program.example_inputs])
    change = Replacement({layers(program)[0]: lambda x: x.new_full((1, 4, 8, 8), torch.nan)})
    with pytest.raises(gfx.InputError, match=r"under a change, .* batch 0: 0 is the first"):
        replay.run(change)


def test_infinity_that_does_not_reach_the_output_is_no_fault():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return torch.softmax(self.conv(x).masked_fill(x[:, :1] > 0, -torch.inf), 1).nan_to_num()

    program = gfx.trace(Masked(), torch.randn(1, 3, 4, 4))
    assert torch.isfinite(Replay(program, [program.example_inputs]).outputs[0]).all()


def test_a_change_that_does_not_fit_says_where():
    program = small("dcgan")
    replay = Replay(program, [program.example_inputs])
    with pytest.raises(
        gfx.InputError, match=r"does not run at up.1.conv: .* must take the layer's"
    ):
        replay.run(Replacement({layers(program)[2]: nn.Linear(3, 3)}))
    with pytest.raises(gfx.InputError, match="at node nowhere, which the program does not have"):
        replay.run(Replacement({"nowhere": nn.Identity()}))
    with pytest.raises(gfx.InputError, match="no batch is given"):
        Replay(program, [])


def test_only_calls_can_be_replaced():
    program = small("dcgan")
    replay = Replay(program, [program.example_inputs])
    for node in program.nodes():
        if not node.op.startswith("call"):
            with pytest.raises(gfx.InputError, match=f"node {node.name} is a {node.op}, which"):
                replay.run(Replacement({node: nn.Identity()}))


def test_a_change_that_fails_leaves_the_others_alone():
    program = small("dcgan")
    batches = synthetic(program, 2)
    replay = Replay(program, batches)
    first, second, *_ = layers(program)
    fits = Replacement({second: Scaled(program.submodule(second))})
    changes = [Replacement({first: nn.Linear(3, 3)}), fits]
    used, failed = [], []
    replay.each(changes, lambda i, b, y: used.append((i, b)), lambda i, e: failed.append((i, e)))
    assert used == [(1, 0), (1, 1)]
    ((number, error),) = failed
    assert number == 0
    assert "does not run at project.conv" in str(error)


@pytest.mark.parametrize("memory", [2 << 30, 0])
def test_what_a_layer_reads_is_at_hand(memory):
    program = small("resnet_9blocks")
    batches = synthetic(program, 2)
    replay = Replay(program, batches, memory=memory)
    for node in layers(program):
        seen = []
        hook = program.submodule(node).register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].clone())
        )
        for inputs in batches:
            run(program, inputs)
        hook.remove()
        found = list(replay.inputs(node))
        assert equal(seen, found)
        found[0].zero_()
        assert equal(seen, list(replay.inputs(node)))


def test_the_weakest_are_those_that_channel_prune_takes():
    from passes.channel_prune import ChannelPrune

    program, freely = small("resnet_9blocks"), Bounds(min_channels=1)
    groups = gfx.channels(program)
    for group in groups.free:
        for share in (0.75, 0.5, 0.25, 1.0):
            removed = weakest(groups, group, share, bounds=freely)
            assert removed.sum() == removed[group.roots].sum() == int(group.size * (1 - share))
    after = program.copy()
    outcome = ChannelPrune(ratio=0.5, min_channels=1).apply(after, gfx.Context())
    for group in groups.free:
        stay = np.flatnonzero(~weakest(groups, group, 0.5, bounds=freely)[group.roots]).tolist()
        assert outcome.details["kept"][group.producers[0]] == stay


def test_a_group_that_cannot_be_narrowed_is_refused():
    groups = gfx.channels(small("dcgan"))
    pinned = next(g for g in groups if not g.free)
    with pytest.raises(gfx.InputError, match=f"{pinned.name} cannot be narrowed: "):
        weakest(groups, pinned, 0.5)
    with pytest.raises(gfx.InputError, match=r"share=0 of project.conv must be above 0"):
        weakest(groups, groups.free[0], 0)


def test_synthetic_images_are_smooth_and_in_the_range_of_the_example():
    example = torch.rand(2, 3, 64, 48) * 2 + 1
    program = gfx.trace(nn.Conv2d(3, 3, 1), example)
    (x,), (y,) = synthetic(program, 2, seed=5)
    assert x.shape == example.shape
    assert 1 <= float(x.min()) < 1.5 < 2.5 < float(x.max()) <= 3
    steps = (x[..., 1:] - x[..., :-1]).abs().mean()
    assert float(steps) < 0.2 * float(x.std())
    assert not torch.equal(x, y)
    assert torch.equal(x, synthetic(program, 1, seed=5)[0][0])
    assert synthetic_note(program, 1) == (
        "no data was given: 1 batch of smooth random images were made up (seed 0)"
    )


def test_synthetic_maps_of_labels_stay_one_hot():
    labels = torch.nn.functional.one_hot(torch.randint(5, (1, 16, 16)), 5).movedim(-1, 1).float()
    program = gfx.trace(nn.Conv2d(5, 3, 1), labels)
    ((x,),) = synthetic(program, 1)
    assert torch.equal(x.sum(1), torch.ones(1, 16, 16))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert "smooth maps of labels" in synthetic_note(program, 3)


def test_without_data_latents_are_noise():
    program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
    (z,) = synthetic(program, 1)[0]
    assert z.shape == (1, 100, 1, 1)
    assert 0.5 < float(z.std()) < 1.5
