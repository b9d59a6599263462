"""Laws of the repair, on random generators that were pruned."""

import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

import gfx
from gfx.errors import PreconditionError
from gfx.ir.program import Program
from passes.refit import Refit
from support.blocks import Spec
from support.laws import law, pruned
from support.strategies import specs


def batches(spec: Spec, count: int, seed: int) -> list[tuple[torch.Tensor, ...]]:
    """Draws inputs like those of a spec."""
    torch.manual_seed(seed)
    return [
        pytree.tree_map_only(torch.Tensor, lambda x: drawn(x), spec.inputs(8)) for _ in range(count)
    ]


def drawn(x: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(x) if x.is_floating_point() else x


def broken(spec: Spec, ratio: float, seed: int) -> tuple[Program, Program]:
    """Prunes a generator at random; returns it, and what it was."""
    before = gfx.trace(*spec.build())
    after, _ = pruned(before, ratio=ratio, seed=seed)
    return after, before


def refit(program: Program, original: Program, data: object, **fields) -> dict:
    """Refits in place and returns the held-out errors; data that is too small is no example."""
    try:
        outcome = Refit(**fields).apply(program, gfx.Context(data, original))
    except PreconditionError as error:
        if "give at least" not in str(error):
            raise
        reject()
    return outcome.details["held_out"]


def relative(program: Program, original: Program, data: list) -> float:
    """Measures the error by running both programs as they are."""
    errors = []
    with torch.no_grad():
        for inputs in data:
            a, b = (
                torch.cat([x.flatten() for x in pytree.tree_leaves(p.module(*inputs))])
                for p in (original, program)
            )
            errors.append(float((a - b).norm() / a.norm()) if a.norm() > 0 else 0.0)
    return sum(errors) / len(errors)


@law(8, swept=12)
@given(specs(), st.sampled_from((0.5, 0.25)), st.integers(0, 3))
def test_the_held_out_error_never_grows(spec, ratio, seed):
    program, original = broken(spec, ratio, seed)
    held = refit(program, original, batches(spec, 8, seed))
    assert held["after"] <= held["before"]


@law(8)
@given(specs(), st.integers(0, 3))
def test_an_untouched_program_stays_as_it_is(spec, seed):
    program = gfx.trace(*spec.build())
    original = program.copy()
    held = refit(program, original, batches(spec, 4, seed))
    assert held == {"before": 0.0, "after": 0.0}
    state = original.module.state_dict()
    for name, value in program.module.state_dict().items():
        assert torch.equal(value, state[name])


@law(5)
@given(specs(), st.integers(0, 3))
def test_two_repairs_of_one_program_are_equal(spec, seed):
    program, original = broken(spec, 0.5, seed)
    twin, data = program.copy(), batches(spec, 6, seed)
    assert refit(program, original, data) == refit(twin, original, data)
    state = twin.module.state_dict()
    for name, value in program.module.state_dict().items():
        assert torch.equal(value, state[name]), name
