"""Laws that every registered pass keeps on generators nobody listed.

A failing example prints as a Spec: paste it into tests/laws/test_regressions.py, and it stays.
`make laws` tries many more examples, each time new ones.
"""

import copy
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import fx, nn

import gfx
from gfx.contract import Pass
from gfx.pipeline.registry import passes
from support.laws import law
from support.oracle import alike, assert_equal_outputs, flat
from support.pass_draws import applied, drawn
from support.strategies import specs

tried = law(3, swept=8)
PASSES = pytest.mark.parametrize("kind", passes().values(), ids=list(passes()))

# parameters that ask for nothing, and parameters worth varying; others keep their defaults
NEUTRAL: dict[str, dict[str, Any]] = {
    "channel_prune": {"ratio": 0.0},
    "decompose": {"keep": ("*",)},
    "distill_taps": {"layers": ()},
    "fold_masks": {},  # there are no masks
    "remove_zeros": {},  # there are no zeros
    "widths": {},  # it notes what may be, and changes nothing
}


def neutral(kind: type[Pass]) -> Pass:
    return kind(**NEUTRAL.get(kind.name, {"targets": ()}))


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that can be seen of a model: bytes, types, modes, settings."""
    tensors = {name: digest(t) for name, t in model.state_dict().items()}
    modules = {name: (kind_of(m), m.training, m.extra_repr()) for name, m in model.named_modules()}
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    return {"tensors": tensors, "modules": modules, "grads": grads}


def digest(tensor: torch.Tensor) -> str:
    content = sha256(tensor.numpy(force=True).tobytes()).hexdigest()[:12]
    return f"{tuple(tensor.shape)} {tensor.stride()} {content}"


def kind_of(module: nn.Module) -> str:
    return type(module).__qualname__  # each GraphModule has a class of its own, of one name


def costs(module: nn.Module, inputs: tuple) -> Iterator[int]:
    cost = gfx.cost(module, inputs)
    yield from (cost.macs.exact, cost.macs.output, cost.macs.output_norm)
    yield from (cost.params, cost.param_bytes)


@PASSES
@tried
@given(specs(wraps=True, approximate=True), st.data())
def test_the_model_passed_in_is_untouched(kind, spec, data):
    model, inputs = spec.build()
    before, inputs_before = state(model), copy.deepcopy(inputs)
    applied(drawn(data, kind), model, inputs, verify=True)
    assert state(model) == before
    assert all(torch.equal(a, b) for a, b in zip(inputs, inputs_before, strict=True))


@PASSES
@tried
@given(specs(wraps=True, approximate=True), st.data())
def test_the_signature_is_kept(kind, spec, data):
    model, inputs = spec.build()
    pass_ = drawn(data, kind)
    got, wanted = applied(pass_, model, inputs)(*inputs), model(*inputs)
    leaves = torch.utils._pytree.tree_flatten
    (a, a_tree), (b, b_tree) = leaves(got), leaves(wanted)
    assert a_tree == b_tree
    assert [(t.shape, t.dtype) for t in a] == [(t.shape, t.dtype) for t in b]
    if gfx.Keeps.VALUES in pass_.keeps:
        assert_equal_outputs(wanted, got)


@PASSES
@tried
@given(specs(wraps=True, approximate=True), st.data())
def test_the_report_is_true(kind, spec, data):
    model, inputs = spec.build()
    small = applied(drawn(data, kind), model, inputs, verify=True)
    report = gfx.report(small)
    (entry,) = report.passes
    assert report.before.macs == gfx.cost(model, inputs).macs
    assert report.after.macs == gfx.cost(small, inputs).macs
    assert report.after.params == sum(p.numel() for p in small.parameters())
    assert all(check.passed is not False for check in entry.checks)
    traced = gfx.trace(model, inputs).module
    changed = traced.code != small.code or state(traced) != state(small)
    assert changed == bool(entry.changes)


@PASSES
@tried
@given(specs(wraps=True, approximate=True))
def test_neutral_parameters_change_nothing(kind, spec):
    model, inputs = spec.build()
    small = applied(neutral(kind), model, inputs)
    traced = gfx.trace(model, inputs).module
    assert gfx.report(small).passes[0].changes == ()
    assert small.code == traced.code
    assert state(small) == state(traced)


@PASSES
@tried
@given(specs(wraps=True, approximate=True), st.data())
def test_the_cost_never_grows(kind, spec, data):
    model, inputs = spec.build()
    if kind.grows:
        return  # it says so
    small = applied(drawn(data, kind), model, inputs)
    assert all(a <= b for a, b in zip(costs(small, inputs), costs(model, inputs), strict=True))


@PASSES
@tried
@given(st.data())
def test_the_spec_round_trips(kind, data):
    for pass_ in (drawn(data, kind), neutral(kind), kind()):
        recipe = gfx.Recipe.load({"recipe": 1, "passes": [pass_.spec()]})
        assert recipe.passes == (pass_,)
        assert gfx.Recipe.load(recipe.spec()) == recipe


@PASSES
@tried
@given(specs(wraps=True, approximate=True), st.data())
def test_the_same_seed_gives_the_same_bytes(kind, tmp_path_factory, spec, data):
    model, inputs = spec.build()
    pass_ = drawn(data, kind)
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("a.gfx", "b.gfx"):
        torch.manual_seed(len(name))  # the global random state has no say
        save(applied(pass_, model, inputs), folder / name)
    assert (folder / "a.gfx").read_bytes() == (folder / "b.gfx").read_bytes()


@PASSES
@tried
@given(specs(wraps=True, approximate=True), st.data())
def test_what_is_saved_and_loaded_gives_the_same_bits(kind, tmp_path_factory, spec, data):
    model, inputs = spec.build()
    small = applied(drawn(data, kind), model, inputs)
    path = tmp_path_factory.mktemp("saved") / "small.gfx"
    save(small, path)
    loaded = gfx.load(path)
    assert alike(flat(small(*inputs)), flat(loaded(*inputs)))
    assert state(loaded)["tensors"] == state(small)["tensors"]
    assert gfx.report(loaded) == gfx.report(small)


def save(small: fx.GraphModule, path: Path) -> None:
    """Saves; weights that a hook or parametrization still computes are no example."""
    try:
        gfx.save(small, path)
    except gfx.ArchiveError as error:
        if "run fold_parametrizations before" in str(error):
            reject()
        raise
