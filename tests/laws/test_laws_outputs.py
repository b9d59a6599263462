"""Random structures of objects as outputs: the graph returns the same classes, also from files."""

import copy
import io
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import gfx
from gfx.objects.take_apart import leaves, take_apart
from support.laws import law
from support.output_objects import (
    KINDS,
    Stand,
    Structured,
    StructuredByExport,
    same_value,
    structures,
    untrusted,
)

EXAMPLE = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)
NETS: list[type[Structured]] = [Structured, StructuredByExport]


def checked(net: type[Structured], recipe: Any) -> None:
    """Checks all ways by which a graph with such an output may go."""
    model = net(recipe).eval()
    wanted = model(EXAMPLE)
    program = gfx.trace(model, EXAMPLE)
    assert program.provenance.frontend == ("symbolic" if net is Structured else "export")
    assert not [n for n in program.provenance.notes if "dictionary" in n or "container" in n]
    twins = [program.module, copy.deepcopy(program.module), pickled(program.module)]
    twins.append(pickled(copy.deepcopy(twins[2])))
    twins.append(gfx.trace(twins[2], EXAMPLE).module)
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a.gfx"), Path(folder, "b.gfx")
        gfx.save(program, first)
        twins.append(gfx.open_model(first, trust=True))
        stranger, warned = untrusted(first)
        gfx.save(stranger, second)
        assert first.read_bytes() == second.read_bytes()
        twins.append(gfx.open_model(second, trust=True))
    for number, twin in enumerate(twins):
        assert same_value(wanted, twin(EXAMPLE)), number
    assert same_value(by_fields(wanted), by_fields(stranger(EXAMPLE)))
    assert warned is not same_value(wanted, stranger(EXAMPLE))
    assert same_value(by_fields(wanted), by_fields(pickled(stranger)(EXAMPLE)))
    interpreted = torch.fx.Interpreter(program.module).run(EXAMPLE)
    assert same_value(by_fields(wanted), by_fields(interpreted))


def by_fields(value: Any) -> Any:
    """Returns an output of plain containers; a tuple with names becomes one of pairs."""
    value = take_apart(value)[0]
    if isinstance(value, dict):
        return {key: by_fields(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return tuple(zip(value._fields, map(by_fields, value), strict=True))
    return type(value)(map(by_fields, value)) if isinstance(value, list | tuple) else value


def pickled(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_object_comes_back(kind: str, net: type[Structured]) -> None:
    checked(net, (kind, Stand(0), Stand(1)))


@law(6)
@given(recipe=structures(), net=st.sampled_from(NETS))
def test_any_structure_of_objects_comes_back(recipe: Any, net: type[Structured]) -> None:
    checked(net, recipe)


@law(3)
@given(recipe=structures())
def test_passes_keep_the_classes_and_gradients_flow(recipe: Any) -> None:
    model = Structured(recipe).eval()
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, EXAMPLE)
    x = EXAMPLE.clone().requires_grad_()
    got, wanted = small(x), model(x)
    ours, theirs = take_apart(got), take_apart(wanted)
    assert ours[1] == theirs[1]
    sum(leaf.sum() for leaf in leaves(got) if isinstance(leaf, Tensor)).backward()
    assert x.grad is not None
    assert bool(x.grad.abs().sum() > 0)
