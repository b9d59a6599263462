"""Removals add up, equal slicing by hand, and are nothing where nothing goes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.costs import cost_of
from gfx.coupling import analyse
from gfx.coupling.channel_names import channels_of, named_axes, stays
from gfx.coupling.removal import narrowed
from passes.channel_prune import ChannelPrune
from support.laws import law
from support.oracle import alike
from support.patterns import PATTERNS
from support.programs import traced_pattern
from support.strategies import specs


def pruned(program: gfx.Program, kept: dict[str, list[int]]) -> gfx.Program:
    small = program.copy()
    stay = {name: tuple(indices) for name, indices in kept.items()}
    ChannelPrune(kept=stay, ratio=None if stay else 0.0).apply(small, gfx.Context())
    return small


def weights(program: gfx.Program) -> dict[str, bytes]:
    state = program.module.state_dict().items()
    return {name: f"{tuple(t.shape)}".encode() + t.numpy().tobytes() for name, t in state}


def two_removals(program: gfx.Program, seed: int) -> tuple[dict, dict, dict]:
    """Draws two removals that share nothing: a, b as seen by what a leaves, and both at once."""
    rng, groups = np.random.default_rng(seed), analyse(program)
    a, b = groups.none_removed(), groups.none_removed()
    for group in groups.free:
        order, third = rng.permutation(group.roots), group.size // 3
        a[order[:third]] = True
        b[order[third : 2 * third]] = True
    axes = named_axes(groups)
    after_a = {}
    for name in stays(groups, b):
        classes = groups.roots[axes[name].ids]
        after_a[name] = np.flatnonzero(~b[classes[~a[classes]]]).tolist()
    first, both = ({n: s for n, (_, s) in stays(groups, m).items()} for m in (a, a | b))
    return first, after_a, both


def check_union(program: gfx.Program, seed: int) -> None:
    a, b, both = two_removals(program, seed)
    in_steps, at_once = pruned(pruned(program, a), b), pruned(program, both)
    # what is stored of a statistic of weights is one rest at once, and one for each step
    own, steps, once = program.module.state_dict(), weights(in_steps), weights(at_once)
    assert {n: v for n, v in steps.items() if n in own} == {n: once[n] for n in own}
    if steps.keys() - own:
        x = program.example_inputs
        assert alike(in_steps.module(*x), at_once.module(*x))
    else:
        assert steps == once


# once a statistic of weights is stored, it no longer follows what is removed later: the raw and the
# normalised weight are not coupled any more, and the norm of a product does not see its rank shrink
UNCOUPLED = ("FactorisedKernel",)


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in UNCOUPLED])
def test_two_removals_in_turn_are_both_at_once(name):
    check_union(traced_pattern(name), 0)


@law(15, swept=30)
@given(specs(), st.integers(0, 9))
def test_two_removals_in_turn_are_both_at_once_on_any_generator(spec, seed):
    check_union(gfx.trace(*spec.build()), seed)


def test_explicit_channels_are_slices_of_the_weights():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 6, 2),
        nn.PReLU(6), nn.Conv2d(6, 3, 1),
    ).eval()  # fmt: skip
    first, second = [0, 2, 3, 7], [5, 1]
    wanted = {name: t.clone() for name, t in model.state_dict().items()}
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        wanted[name] = wanted[name][first]
    wanted["3.weight"] = wanted["3.weight"][first][:, sorted(second)]
    for name in ("3.bias", "4.weight"):
        wanted[name] = wanted[name][sorted(second)]
    wanted["5.weight"] = wanted["5.weight"][:, sorted(second)]
    x = torch.randn(2, 3, 8, 8)
    small = pruned(gfx.trace(model, x), {"0": first, "3": second})  # in any order
    state = small.module.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    narrow = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2),
        nn.PReLU(2), nn.Conv2d(2, 3, 1),
    ).eval()  # fmt: skip
    narrow.load_state_dict(wanted)
    assert alike(narrow(x), small.module(x))


@law(15, swept=30)
@given(specs())
def test_the_full_width_changes_nothing(spec):
    model, inputs = spec.build()
    program = gfx.trace(model, inputs)
    groups = analyse(program)
    full = {name: len(channels_of(groups, axis)) for name, axis in named_axes(groups).items()}
    everything = {name: tuple(range(size)) for name, size in full.items()}
    before, text = weights(program), program.text()
    for fields in ({"widths": full}, {"kept": everything}):
        outcome = ChannelPrune(**fields).apply(program, gfx.Context())
        assert not outcome.modified
        assert outcome.details.get("kept", {}) == {}
        assert (weights(program), program.text()) == (before, text)
    recipe = {"passes": [{"channel_prune": {"widths": full}}]}
    small = gfx.apply(recipe, model, inputs)  # honest, hence accepted
    assert gfx.report(small).passes[0].changes == ()


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        self.one, self.other = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.last(self.other(self.one(self.first(x).relu()).relu()).relu())


def test_tied_weights_stay_tied_without_content():
    groups = gfx.channels(gfx.trace(Tied(), torch.zeros(1, 3, 4, 4)))
    widths = {group.name: 3 for group in groups.free}
    counted = [cost_of(narrowed(groups, widths, content=content)) for content in (True, False)]
    assert counted[0].macs == counted[1].macs
    assert counted[0].params == counted[1].params
