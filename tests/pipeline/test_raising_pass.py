"""A pass that raises is named in one sentence, wherever and whatever it raises."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import gfx

ERRORS = (
    KeyError("conv1"),
    RuntimeError("shape mismatch\nsecond line"),
    AttributeError("no such thing"),
    IndexError("tuple index out of range"),
    ZeroDivisionError(),
    MemoryError("too large"),
    AssertionError(),
    StopIteration(),
)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()


@dataclass(frozen=True)
class Raising(gfx.Pass):
    """Raises in one of its methods."""

    name: ClassVar[str] = "raising"
    keeps: ClassVar[gfx.Keeps] = gfx.Keeps.SIGNATURE

    where: str = "apply"
    error: Any = None

    def at(self, where: str) -> None:
        if where == self.where:
            raise self.error

    def requires(self, program: gfx.Program) -> None:
        self.at("requires")

    def apply(self, program: gfx.Program, context: gfx.Context) -> gfx.Outcome:
        self.at("apply")
        outcome = gfx.Outcome()
        program.tensor("0.bias").data.add_(1)
        outcome.change("0", "bias", 0, 1)
        if self.where == "reference":
            return replace(outcome, reference=lambda old: self.at("reference"))
        if self.where == "odd":
            program.module.register_module("stray", None)
            return None  # type: ignore[return-value]
        return outcome

    def ensures(self, program: gfx.Program) -> None:
        self.at("ensures")


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", ["requires", "apply", "ensures", "reference"])
def test_a_pass_that_raises_is_named(where: str, error: Exception) -> None:
    model = net()
    before = {n: p.clone() for n, p in model.named_parameters()}
    recipe = gfx.Recipe(passes=(Raising(where, error),))
    with pytest.raises(gfx.VerificationError) as caught:
        gfx.apply(recipe, model, torch.rand(1, 3, 8, 8))
    text = str(caught.value)
    assert text.startswith("raising: ")
    assert f"{where if where != 'reference' else 'the reference of its outcome'} raised" in text
    assert type(error).__name__ in text
    assert "test_raising_pass.py, line" in text
    assert f"the pass is {__name__}.Raising" in text
    assert "\n" not in text
    assert caught.value.__cause__ is error
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_an_error_of_gfx_keeps_its_kind_and_gets_the_name() -> None:
    recipe = gfx.Recipe(passes=(Raising("apply", gfx.BudgetError("too dear")),))
    with pytest.raises(gfx.BudgetError, match=r"^raising: too dear$"):
        gfx.apply(recipe, net(), torch.rand(1, 3, 8, 8))


@dataclass(frozen=True)
class Picky(gfx.Pass):
    """Raises as it is made."""

    name: ClassVar[str] = "picky"
    keeps: ClassVar[gfx.Keeps] = gfx.Keeps.SIGNATURE

    by: float = 1.0

    def __post_init__(self) -> None:
        raise ValueError(f"by={self.by} is odd")

    def apply(self, program: gfx.Program, context: gfx.Context) -> gfx.Outcome:
        return gfx.Outcome()


def test_a_pass_that_raises_as_it_is_made_is_named() -> None:
    from gfx.pipeline.recipe import build_pass

    with pytest.raises(gfx.RecipeError, match=r"recipe picky: .*ValueError: by=2.0 is odd"):
        build_pass(Picky, {"by": 2.0})
