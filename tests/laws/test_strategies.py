"""The random generators: valid, deterministic, varied, and shrinking to the plain case."""

import pytest
import torch
from hypothesis import Phase, find, given, settings
from torch import fx

import gfx
from support import blocks
from support.blocks import APPROXIMATE, LATENTS, NORMS, SHAPES, Block, Conv, Source, Spec
from support.laws import law
from support.oracle import alike, flat
from support.strategies import BLOCKS, specs

KINDS = sorted(
    (kind for kind in vars(blocks).values() if isinstance(kind, type) and issubclass(kind, Block)),
    key=lambda kind: kind.__name__,
)
KINDS.remove(Block)
SECOND = {blocks.ConditionalNorm: "class", blocks.Spade: "map", blocks.LabelConcat: "label"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_block_runs_traces_and_matters(kind):
    spec = Spec(source=Source(second=SECOND.get(kind, "")), blocks=(kind(),), batch=2)
    model, inputs = spec.build()
    traced = fx.symbolic_trace(model)
    assert torch.equal(flat(traced(*inputs)), flat(model(*inputs)))
    plain, _ = Spec(source=spec.source, batch=2).build()
    assert flat(model(*inputs)).shape != flat(plain(*inputs)).shape or not torch.allclose(
        flat(model(*inputs)), flat(plain(*inputs))
    )


@law(20, swept=40)
@given(specs(wraps=True, approximate=True))
def test_generators_are_finite_traceable_and_rebuilt_alike(spec):
    model, inputs = spec.build()
    again, same_inputs = spec.build()
    outputs = flat(model(*inputs))
    assert outputs.dtype == torch.float64
    assert outputs.isfinite().all()
    assert not model.training
    assert alike(outputs, flat(again(*same_inputs)))
    # by gfx: torch's own symbolic trace takes neither a write nor a size for a stored kernel
    program = gfx.trace(model, inputs)
    assert not program.provenance.opaque
    assert alike(outputs, flat(program.module(*inputs)))


def test_the_plainest_generator_is_a_conv_and_its_head():
    assert find(specs(), lambda spec: True) == Spec()
    model, _ = Spec().build()
    assert [type(m).__name__ for m in model.modules() if hasattr(m, "weight")] == ["Conv2d"] * 2


def test_a_failure_with_a_norm_shrinks_to_that_norm_alone():
    quick = settings(max_examples=500, deadline=None, phases=(Phase.generate, Phase.shrink))
    found = find(specs(), lambda spec: "instance_affine" in repr(spec), settings=quick)
    assert len(found.blocks) == 1
    assert found.source == Source()


def test_each_block_is_drawn():
    assert {*BLOCKS, blocks.Residual, blocks.Concat} == set(KINDS)


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_each_choice_of_a_block_runs(kind):
    @law(12, phases=(Phase.generate,))
    @given(BLOCKS[kind])
    def runs(block):
        model, inputs = Spec(source=Source(second=SECOND.get(kind, "")), blocks=(block,)).build()
        assert flat(model(*inputs)).isfinite().all()

    runs()


@pytest.mark.parametrize("kind", [*SHAPES, *LATENTS])
def test_each_source_runs(kind):
    model, inputs = Spec(source=Source(kind), blocks=(Conv(norm="batch"),), batch=2).build()
    assert flat(model(*inputs)).isfinite().all()
    assert flat(model(*inputs)).shape == flat(model(*Spec(source=Source(kind)).inputs(2))).shape


@pytest.mark.parametrize("kind", [*NORMS, *APPROXIMATE])
def test_each_norm_runs(kind):
    model, inputs = Spec(blocks=(Conv(norm=kind),)).build()
    assert flat(model(*inputs)).isfinite().all()


def test_a_spec_prints_as_python():
    spec = Spec(blocks=(blocks.Residual((Conv(out=2),)),), outputs="two")
    assert eval(repr(spec), vars(blocks)) == spec
