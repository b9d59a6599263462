"""StyleGAN2 folds its batch into the channels: no batch size changes what is read of a channel."""

import numpy as np
import pytest
import torch

import gfx
from gfx.compression.importance import rank
from gfx.compression.probe import Narrowing, Replay
from gfx.coupling.removal import masked, remove
from support.blocks import Modulated, Spec
from support.oracle import assert_equal_outputs

GROWN = (False, True)


def spec(batch: int, grown: bool) -> Spec:
    return Spec(blocks=(Modulated(blur=grown),), batch=batch)


def scores(batch: int, grown: bool, importance: str) -> dict[str, np.ndarray]:
    made = spec(batch, grown)
    groups = gfx.channels(gfx.trace(*made.build()))
    data = [made.inputs(3), made.inputs(2)]
    return rank(groups, groups.free, importance, data=data, batches=2, seed=0)


@pytest.mark.parametrize("grown", GROWN)
@pytest.mark.parametrize("importance", ["taylor", "fisher", "activation", "reconstruction"])
def test_the_batch_of_the_example_does_not_change_the_ranks(importance, grown):
    one, two = (scores(batch, grown, importance) for batch in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        assert np.isfinite(one[name]).all()
        np.testing.assert_allclose(one[name], two[name], rtol=1e-9)


@pytest.mark.parametrize("grown", GROWN)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_reference_and_a_probe_run_on_any_batch(batch, grown):
    made = spec(batch, grown)
    program = gfx.trace(*made.build())
    groups = gfx.channels(program)
    removed = groups.none_removed()
    for group in groups.free:
        removed[group.roots[1:3]] = True
    reference = program.copy()
    masked(reference, gfx.channels(reference), removed)
    small = program.copy()
    remove(small, gfx.channels(small), removed)
    for size in (1, 2, 3):
        inputs = made.inputs(size)
        with torch.no_grad():
            assert_equal_outputs(reference.module(*inputs), small.module(*inputs))
            (got,) = Replay(program, [inputs]).run(Narrowing(groups, removed))
            assert_equal_outputs(reference.module(*inputs), got)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fast_inspection_runs_on_any_batch(batch):
    made = spec(batch, False)
    model, inputs = made.build()
    small, large = (
        gfx.inspect(model, inputs, data=[made.inputs(n)], fast=True).to_dict() for n in (1, 3)
    )
    assert small.keys() == large.keys()
