"""Whole generators that nobody built for gfx: traced, narrowed, and judged by the oracle."""

import functools

import pytest
import torch

import gfx
from gfx.coupling import Group
from gfx.coupling.channel_names import modules_of
from passes.channel_prune import ChannelPrune
from passes.fold_parametrizations import FoldParametrizations
from support.generators.register import GENERATORS, built, inputs
from support.laws import long_changes, prune_as_told, staying
from support.oracle import assert_equal_outputs, zeroed
from support.sweeps import some

AGAIN = ("Imdn", "Restormer", "Gaugan", "BigDeep", "Mobile", "NafLayer", "WrittenKernels", "Wave")
ENDS = ("its channels are those of the model's input", "its channels are the model's output")


@functools.cache
def traced(name: str) -> gfx.Program:
    """Traces a generator once for all tests, and folds its parametrizations."""
    program = gfx.trace(built(name), inputs(name))
    if any(hasattr(m, "parametrizations") or _old_style(m) for m in program.module.modules()):
        FoldParametrizations().apply(program, gfx.Context())
    return program


def _old_style(module: torch.nn.Module) -> bool:
    return hasattr(module, "weight_orig") or hasattr(module, "weight_g")


def variants(name: str) -> list[dict[str, int]]:
    """Lists other batch and image sizes that a generator takes."""
    entry = GENERATORS[name]
    return [{}, *[{"batch": 3}] * entry.batches, *[{"grow": 16}] * entry.sizes]


def inner(group: Group) -> bool:
    """Whether a group is of channels, and not of an end, an image's rows or a filter's taps."""
    why = group.pinned or ""
    place = why.startswith(ENDS) or "slides over it" in why or all(m.dim > 1 for m in group.members)
    return group.size > 1 and not place


@pytest.mark.parametrize("name", some(GENERATORS))
def test_a_generator_is_traced(name):
    model, program = built(name), traced(name)
    assert not program.provenance.opaque
    with torch.no_grad():
        for other in variants(name):
            given = inputs(name, **other)
            assert_equal_outputs(model(*given), program.module(*given))


@pytest.mark.parametrize("name", some(GENERATORS, 1))
def test_what_stays_whole_is_what_an_expert_would_leave(name):
    expected = GENERATORS[name].pinned
    pinned = {g.name: g.pinned for g in gfx.channels(traced(name)) if inner(g) and not g.free}
    assert not {n: why for n, why in pinned.items() if not any(part in why for part in expected)}


@pytest.mark.parametrize("name", some(GENERATORS))
def test_removing_half_of_a_generator_equals_zeroing_what_reads_it(name):
    program = traced(name).copy()
    original = program.copy().module
    vague = {o for g in gfx.channels(program) if not g.exact for o in modules_of(g)}
    pass_ = ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3, keep=tuple(vague))
    reference = pass_.reference(program)
    outcome = pass_.apply(program, gfx.Context())
    kept = staying(outcome)
    with torch.no_grad():
        for other in variants(name):
            given = inputs(name, **other)
            judge = zeroed(original, given, kept) if GENERATORS[name].exact else None
            got = program.module(*given)
            assert_equal_outputs(reference.module(*given) if judge is None else judge, got)


@pytest.mark.parametrize("name", some(GENERATORS, 1))
def test_the_groups_of_a_generator_do_not_depend_on_what_is_called_long(name):
    assert not long_changes(traced(name))


def test_a_narrowed_generator_is_narrowed_again():
    for name in AGAIN:
        program = traced(name).copy()
        for seed in (3, 4):
            fields = {"ratio": 0.4, "min_channels": 1, "importance": "random", "seed": seed}
            prune_as_told(program, *inputs(name), **fields)
