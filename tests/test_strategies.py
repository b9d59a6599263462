"""The random generators: valid, deterministic, varied, and shrinking to the plain case."""

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from torch import fx

import blocks
from blocks import ACTS, NORMS, Block, Conv, Source, Spec
from strategies import any_block, specs

KINDS = sorted(
    (kind for kind in vars(blocks).values() if isinstance(kind, type) and issubclass(kind, Block)),
    key=lambda kind: kind.__name__,
)
KINDS.remove(Block)
SECOND = {blocks.ConditionalNorm: "class", blocks.Spade: "map"}


def flat(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([t.flatten() for t in (outputs if isinstance(outputs, tuple) else (outputs,))])


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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs(wraps=True))
def test_generators_are_finite_traceable_and_rebuilt_alike(spec):
    model, inputs = spec.build()
    again, same_inputs = spec.build()
    outputs = flat(model(*inputs))
    assert outputs.dtype == torch.float64
    assert outputs.isfinite().all()
    assert not model.training
    assert torch.equal(outputs, flat(again(*same_inputs)))
    assert torch.equal(outputs, flat(fx.symbolic_trace(model)(*inputs)))


def test_the_plainest_generator_is_a_conv_and_its_head():
    assert find(specs(), lambda spec: True) == Spec()
    model, _ = Spec().build()
    assert [type(m).__name__ for m in model.modules() if hasattr(m, "weight")] == ["Conv2d"] * 2


def test_a_failure_with_a_norm_shrinks_to_that_norm_alone():
    quick = settings(max_examples=500, deadline=None, phases=(Phase.generate, Phase.shrink))
    found = find(specs(), lambda spec: "instance_affine" in repr(spec), settings=quick)
    assert len(found.blocks) == 1
    assert found.source == Source()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_block_is_drawn(kind):
    quick = settings(max_examples=2000, deadline=None, phases=(Phase.generate,))
    assert find(any_block, lambda block: kind.__name__ + "(" in repr(block), settings=quick)


def test_each_norm_and_activation_is_drawn():
    seen = [find(any_block, lambda b, n=n: isinstance(b, Conv) and b.norm == n) for n in NORMS]
    seen += [find(any_block, lambda b, a=a: isinstance(b, Conv) and b.act == a) for a in ACTS]
    assert len(seen) == len(NORMS) + len(ACTS)


def test_a_spec_prints_as_python():
    spec = Spec(blocks=(blocks.Residual((Conv(out=2),)),), outputs="two")
    assert eval(repr(spec), vars(blocks)) == spec
