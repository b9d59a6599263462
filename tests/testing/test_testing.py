"""gfx.testing.check_pass: built-in passes obey the laws, and each breach is named."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import gfx
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.program import Program
from gfx.pipeline.registry import passes
from gfx.testing import check_pass
from gfx.testing.programs import sample_programs


@dataclass(frozen=True)
class Honest(Pass):
    name: ClassVar[str] = "honest"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    def apply(self, program: Program, context: Context) -> Outcome:
        return Outcome()


@pytest.mark.parametrize("name", [n for n, p in passes().items() if p.__module__[:7] == "passes."])
def test_every_builtin_pass_obeys_the_laws(name: str) -> None:
    summary = gfx.testing.check_pass(passes()[name]())
    assert summary.name == name
    # a weight that is computed cannot be drawn anew
    refused = {"Normed"} if name == "reinitialise" else set()
    assert {program for program, _ in summary.refused} == refused
    assert len(summary.accepted) == len(sample_programs()) - len(refused)
    # an archive holds plain torch.nn layers only
    unfolded = {"Normed"} if name != "fold_parametrizations" else set()
    assert {program for program, _ in summary.not_saved} == unfolded - refused


def test_a_pass_that_is_not_installed_can_be_checked() -> None:
    assert len(check_pass(Honest()).accepted) == len(sample_programs())


def test_touching_the_model_is_a_breach() -> None:
    @dataclass(frozen=True)
    class Greedy(Honest):
        def apply(self, program: Program, context: Context) -> Outcome:
            victim.tensor("to_rgb.bias").data.add_(1)
            return Outcome()

    victim = sample_programs()[0]
    with pytest.raises(
        gfx.VerificationError, match=r"honest: touched the model it was given: the va"
    ):
        check_pass(Greedy(), [victim])


def test_growing_is_a_breach_unless_it_is_declared() -> None:
    @dataclass(frozen=True)
    class Grows(Honest):
        keeps: ClassVar[Keeps] = Keeps.SIGNATURE

        def apply(self, program: Program, context: Context) -> Outcome:
            outcome = Outcome()
            output = next(n for n in program.nodes() if n.op == "output")
            program.module.add_module("extra", nn.Conv2d(3, 3, 1).double())
            with program.graph.inserting_before(output):
                extra = program.graph.call_module("extra", (output.args[0],))
            output.args = (extra,)
            program.recompile()
            outcome.change("extra", "added")
            return outcome

    class Declared(Grows):
        grows: ClassVar[bool] = True

    with pytest.raises(
        gfx.VerificationError, match=r"exact MACs of Plain grow from .*declare `grows"
    ):
        check_pass(Grows())
    assert check_pass(Declared()).refused == ()


def test_not_repeating_oneself_is_a_breach() -> None:
    runs: list[int] = []

    @dataclass(frozen=True)
    class Fickle(Honest):
        keeps: ClassVar[Keeps] = Keeps.SIGNATURE

        def apply(self, program: Program, context: Context) -> Outcome:
            runs.append(1)
            outcome = Outcome()
            program.tensor("to_rgb.bias").data.add_(len(runs))
            outcome.change("to_rgb", "bias")
            return outcome

    with pytest.raises(
        gfx.VerificationError, match="two runs with one seed differ on Plain: the va"
    ):
        check_pass(Fickle())


def test_a_spec_that_does_not_read_back_is_a_breach() -> None:
    @dataclass(frozen=True)
    class Odd(Honest):
        sizes: frozenset[int] = frozenset({1})

    with pytest.raises(
        gfx.VerificationError, match=r"honest: its spec is no recipe: .*sizes: expec"
    ):
        check_pass(Odd())


def test_refusing_everything_is_a_breach_and_refusing_some_is_told() -> None:
    @dataclass(frozen=True)
    class Picky(Honest):
        needs: str = "body"

        def requires(self, program: Program) -> None:
            if not hasattr(program.module, self.needs):
                raise gfx.PreconditionError(f"honest: wants a {self.needs}")

    summary = check_pass(Picky())
    assert summary.accepted == ("Plain",)
    assert summary.refused[0] == ("Skips", "honest: wants a body")
    with pytest.raises(gfx.VerificationError, match="honest: refused every program"):
        check_pass(Picky("none"))


def test_a_lie_is_a_breach() -> None:
    @dataclass(frozen=True)
    class Liar(Honest):
        def apply(self, program: Program, context: Context) -> Outcome:
            outcome = Outcome()
            outcome.change("to_rgb", "nothing at all")
            return outcome

    with pytest.raises(gfx.VerificationError, match="honest: honesty: reports 1 change"):
        check_pass(Liar())


def test_the_samples_are_small_and_always_the_same() -> None:
    first, second = sample_programs(), sample_programs()
    for a, b in zip(first, second, strict=True):
        assert sum(p.numel() for p in a.module.parameters()) < 10_000
        assert torch.equal(a.example_inputs[0], b.example_inputs[0])
        assert not a.training
