"""fold_parametrizations: every style of norm becomes a plain weight of the same value."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import gfx
from gfx.contract import Outcome
from gfx.ir.program import Program
from gfx.pipeline.report import report
from passes.fold_parametrizations import FoldParametrizations
from support.oracle import alike


def old_spectral_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and still what models use
        return nn.utils.spectral_norm(layer)


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and still what models use
        return nn.utils.weight_norm(layer)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class LowRank(nn.Module):
    """Stores a weight as a product: two originals."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weight.detach().clone(), torch.eye(weight.shape[1], dtype=weight.dtype)


def doubled(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Doubled())


STYLES: dict[str, Callable[[Any], Any]] = {
    "old spectral_norm": old_spectral_norm,
    "old weight_norm": old_weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm": parametrizations.weight_norm,
    "own": doubled,
    "both": lambda layer: doubled(parametrizations.spectral_norm(layer)),
}
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(3, 6, 3), (1, 3, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 6, 3), (1, 3, 5, 5)),
    "linear": (lambda: nn.Linear(3, 6), (1, 3)),
    "embedding": (lambda: nn.Embedding(5, 6), ()),
}


def apply(model: nn.Module, x: torch.Tensor, **options: Any) -> Any:
    return gfx.apply({"passes": ["fold_parametrizations"]}, model, x, **options)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("training", [False, True])
def test_every_style_becomes_a_plain_weight(style: str, layer: str, training: bool) -> None:
    make, shape = LAYERS[layer]
    model = nn.Sequential(STYLES[style](make())).double().train(training)
    x = torch.randn(shape, dtype=torch.float64) if shape else torch.tensor([1, 4])
    with torch.no_grad():
        model(x)
    expected = copy.deepcopy(model).eval()(x).detach()
    small = apply(model, x)
    plain = make()
    assert type(small.get_submodule("0")) is type(plain)
    assert list(small.get_submodule("0").state_dict()) == list(plain.state_dict())
    assert small.training is training
    assert alike(small.eval()(x), expected)


def test_the_model_and_its_class_are_left_as_they_were() -> None:
    model = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))).eval()
    x = torch.randn(1, 3, 5, 5)
    before, state = model(x), copy.deepcopy(model.state_dict())
    apply(model, x)
    assert parametrize.is_parametrized(model[0])
    assert torch.equal(model(x), before)
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True)
    )


def test_a_model_that_was_trained_with_the_old_norms_still_copies() -> None:
    model = nn.Sequential(
        old_spectral_norm(nn.Conv2d(3, 4, 3)), old_weight_norm(nn.Conv2d(4, 3, 1))
    )
    x = torch.randn(1, 3, 5, 5)
    model(x).sum().backward()  # leaves weights with a history, which torch refuses to copy
    small = apply(model.eval(), x)
    assert torch.allclose(small(x), model(x))


@pytest.mark.parametrize("style", STYLES)
def test_requires_grad_is_that_of_the_originals(style: str) -> None:
    model = nn.Sequential(STYLES[style](nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 3, 1)).eval()
    model[0].requires_grad_(False)
    small = apply(model, torch.zeros(1, 3, 4, 4))
    assert [p.requires_grad for p in small.parameters()] == [False, False, True, True]


def test_a_parametrized_tensor_that_is_only_read_is_folded() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = parametrizations.spectral_norm(nn.Conv2d(3, 4, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.conv.weight)

    model, x = Functional().eval(), torch.randn(1, 3, 4, 4)
    small = apply(model, x)
    assert [name for name, _ in small.named_parameters()] == ["conv.weight"]
    assert not list(small.buffers())
    assert alike(small(x), model(x))


class Mixed(nn.Module):
    """Calls a parametrized layer and reads its weight too."""

    def __init__(self, own: bool, twice: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 3, 1)
        self.conv = doubled(conv) if own else parametrizations.spectral_norm(conv)
        self.twice = twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.conv.weight * 2 if self.twice else self.conv.weight
        return nn.functional.conv2d(self.conv(x), weight)


@pytest.mark.parametrize("own", [True, False])
def test_a_tensor_that_is_called_and_read_is_folded_once(own: bool) -> None:
    model, x = Mixed(own, twice=False).eval(), torch.randn(1, 3, 4, 4)
    small = apply(model, x)
    assert [name for name, _ in small.named_parameters()] == ["conv.weight", "conv.bias"]
    assert torch.allclose(small(x), model(x), atol=1e-6)


def test_a_graph_that_computes_on_with_the_parts_is_skipped() -> None:
    model, x = Mixed(own=True, twice=True).eval(), torch.randn(1, 3, 4, 4)
    small = apply(model, x)
    assert alike(small(x), model(x))
    assert {s.why for s in report(small).passes[0].skips} == {
        "the graph uses the parts of the Doubled of weight",
        "the graph uses the parts of its parametrization",
    }


def test_several_originals_become_one_tensor() -> None:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", LowRank())
    small = apply(nn.Sequential(layer), torch.zeros(1, 4))
    assert [name for name, _ in small.named_parameters()] == ["0.weight", "0.bias"]


def test_a_parametrized_buffer_stays_a_buffer() -> None:
    norm = nn.BatchNorm2d(3).eval()
    parametrize.register_parametrization(norm, "running_mean", Doubled())
    small = apply(nn.Sequential(norm).eval(), torch.zeros(1, 3, 2, 2))
    assert "0.running_mean" in dict(small.named_buffers())


def test_training_is_warned_of_in_the_report() -> None:
    model = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 4, 1)))
    (told,) = report(apply(model.train(), torch.zeros(1, 3, 4, 4))).passes
    assert told.changes[0].what.endswith("; it no longer acts in training")


def trace(model: nn.Module, x: torch.Tensor) -> tuple[Program, Outcome]:
    program = gfx.trace(model.eval(), x)
    return program, FoldParametrizations().apply(program, gfx.Context())


def test_a_shared_original_is_skipped() -> None:
    model = nn.Sequential(*(parametrizations.spectral_norm(nn.Linear(3, 3)) for _ in range(2)))
    lists: list[Any] = [layer.parametrizations["weight"] for layer in model]  # type: ignore[index]
    lists[1].original = lists[0].original
    _, outcome = trace(model, torch.zeros(1, 3))
    assert not outcome.modified
    assert outcome.skips[0].why == (
        "the SpectralNorm of weight uses a tensor that another place uses too"
    )


def test_a_hook_that_is_not_known_is_skipped() -> None:
    def shifted(module, inputs):
        return (inputs[0] + 1,)

    model = nn.Sequential(nn.Linear(3, 3))
    model[0].register_forward_pre_hook(shifted)
    _, outcome = trace(model, torch.zeros(1, 3))
    why = outcome.skips[0].why
    assert why.startswith("gfx does not know how to fold its pre-hook ")
    assert why.endswith("test_a_hook_that_is_not_known_is_skipped.<locals>.shifted")


def test_targets_choose_modules_by_path() -> None:
    model = nn.Sequential(*(parametrizations.spectral_norm(nn.Linear(3, 3)) for _ in range(2)))
    program = gfx.trace(model.eval(), torch.zeros(1, 3))
    outcome = FoldParametrizations(targets=("1",)).apply(program, gfx.Context())
    assert [c.node for c in outcome.changes] == ["1"]
    assert [(s.node, s.why) for s in outcome.skips] == [("0", "not in targets 1")]
