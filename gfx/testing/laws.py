"""Defines the laws that every pass obeys, to run on anyone's pass.

1. The model passed in is left unchanged, whether the pass works or refuses.
2. Inputs and outputs keep their shapes, and what the report says is true: the four checks.
3. The cost does not grow, unless the pass declares `grows`.
4. The pass round-trips through a recipe.
5. The same pass, model and seed give the same bytes.
6. Saved and loaded again, the result gives the same output, bit for bit.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from gfx.contract import Pass
from gfx.errors import (
    ArchiveError,
    BudgetError,
    PreconditionError,
    RecipeError,
    VerificationError,
)
from gfx.io.archive import save
from gfx.io.archive.loading import load
from gfx.io.data import replayable
from gfx.io.plain_data import plain
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.execute import draw, on_meta, run
from gfx.ir.program import Program
from gfx.ir.structure import differences
from gfx.pipeline import apply
from gfx.pipeline.recipe import Recipe, build_pass
from gfx.pipeline.report import report
from gfx.testing.programs import sample_programs

__all__ = ["Summary", "check_pass", "sample_programs"]


@dataclass(frozen=True)
class Summary:
    """The result of running the laws on a pass.

    Example:
        >>> Summary("idle", ("Net",), (), ()).name
        'idle'
    """

    name: str
    accepted: tuple[str, ...]  # programs it was applied to
    refused: tuple[tuple[str, str], ...]  # (program, reason): PreconditionError or BudgetError
    not_saved: tuple[tuple[str, str], ...]  # (program, reason): law 6 could not be tested


@in_neutral_modes
def check_pass(pass_: Pass, programs: Iterable[Program] | None = None, data: Any = None) -> Summary:
    """Runs the laws on a pass; the default programs are a few small generators.

    `data` is for a pass that `needs_data`, the same for every program; without it, each program
    gets noise in the shapes of its example inputs.

    A pass may refuse a program with PreconditionError or BudgetError, but not all of them.

    Raises: VerificationError naming the pass, the program and the law it breaks.

    Example:
        >>> from passes.fuse_batch_norm import FuseBatchNorm
        >>> check_pass(FuseBatchNorm()).refused
        ()
    """
    _round_trips(pass_)
    accepted: list[str] = []
    refused: list[tuple[str, str]] = []
    not_saved: list[tuple[str, str]] = []
    data = replayable(data)
    for program in sample_programs() if programs is None else programs:
        name = program.provenance.source
        try:
            small = _untouched(pass_, program, data)
        except (PreconditionError, BudgetError) as error:
            refused.append((name, str(error)))
            continue
        accepted.append(name)
        _costs_no_more(pass_, name, small)
        _repeats(pass_, program, small, data)
        try:
            _survives_a_file(pass_, program, small)
        except ArchiveError as error:
            not_saved.append((name, str(error)))
    if not accepted:
        raise VerificationError(f"{pass_.name}: refused every program: {refused}")
    return Summary(pass_.name, tuple(accepted), tuple(refused), tuple(not_saved))


def _round_trips(pass_: Pass) -> None:
    fields = plain(pass_.spec()[pass_.name])
    try:
        again = build_pass(type(pass_), fields)
    except RecipeError as error:
        raise VerificationError(f"{pass_.name}: its spec is no recipe: {error}") from error
    if again != pass_:
        raise VerificationError(
            f"{pass_.name}: read back from its own spec it is {again}, not {pass_}"
        )


def _untouched(pass_: Pass, program: Program, data: Any) -> fx.GraphModule:
    """Applies a pass with every check on, and checks that its input is unchanged (laws 1 and 2)."""
    before = program.copy()
    try:
        return _apply(pass_, program, data)
    finally:
        touched = next(differences(before, program), None)
        if touched is not None:
            raise VerificationError(f"{pass_.name}: touched the model it was given: {touched}")


def _apply(pass_: Pass, program: Program, data: Any) -> fx.GraphModule:
    if data is None and pass_.needs_data:
        data = [draw(program, seed) for seed in range(2)]
    recipe = Recipe(passes=(pass_,))
    return apply(recipe, program.module, program.example_inputs, data=data, seed=0)


def _costs_no_more(pass_: Pass, name: str, small: nn.Module) -> None:
    made = report(small)
    if pass_.grows or made.before is None or made.after is None:
        return
    for what, old, new in (
        ("exact MACs", made.before.macs.exact, made.after.macs.exact),
        ("parameters", made.before.params, made.after.params),
    ):
        if new > old:
            raise VerificationError(
                f"{pass_.name}: {what} of {name} grow from {old:,} to {new:,}; "
                "declare `grows: ClassVar[bool] = True` if that is meant"
            )


def _repeats(pass_: Pass, program: Program, small: fx.GraphModule, data: Any) -> None:
    again = _apply(pass_, program, data)
    inputs = program.example_inputs
    found = next(differences(Program(small, inputs), Program(again, inputs)), None)
    if found is not None:
        raise VerificationError(
            f"{pass_.name}: two runs with one seed differ on {program.provenance.source}: {found}"
        )
    if report(small) != report(again):
        raise VerificationError(f"{pass_.name}: two runs with one seed report different things")


def _survives_a_file(pass_: Pass, program: Program, small: fx.GraphModule) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.gfx"
        save(small, path)
        loaded = load(path)
    first, second = (Program(m, program.example_inputs) for m in (small, loaded))
    if on_meta(first):
        return
    a, b = (pytree.tree_leaves(run(p, program.example_inputs)) for p in (first, second))
    if len(a) != len(b) or not all(torch.equal(x, y) for x, y in zip(a, b, strict=True)):
        raise VerificationError(f"{pass_.name}: saved and loaded, the result gives other numbers")
