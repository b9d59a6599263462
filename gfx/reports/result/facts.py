"""Collects the facts of a page from the compressed program and its report.

1. Everything but the original is computed from the program now: nothing is stored twice.
2. The original comes from the report's record, or from `original` if it is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from gfx.costs import Cost, cost_of
from gfx.coupling import analyse
from gfx.errors import GfxError, InputError
from gfx.frontend import trace
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from gfx.pipeline.record import RecordedLayer, layers_of, record_of
from gfx.pipeline.report import Report, report
from gfx.reports.result.group_colours import Family, families_of
from gfx.reports.result.layer_table import Pair, StageCost, by_stage, paired
from gfx.reports.result.network import Network, network_of
from gfx.reports.result.picture_rows import Compared, compared

__all__ = ["ResultFacts", "facts_of", "with_original"]


@dataclass(frozen=True)
class ResultFacts:
    """Holds all facts of a page on a compressed program."""

    report: Report
    program: Program
    cost: Cost
    was: tuple[RecordedLayer, ...]  # layers of the original; empty: not known
    pairs: tuple[Pair, ...]
    stages: tuple[StageCost, ...]
    families: tuple[Family, ...]
    ungrouped: str  # why there are no groups
    network: Network
    pictures: Compared | str  # or why there are none


def facts_of(module: fx.GraphModule, stored: Report | None = None) -> ResultFacts:
    """Collects the facts of a module that gfx made.

    Raises: GfxError if it has no report; InputError if it does not run.

    Example:
        >>> import gfx
        >>> facts = facts_of(gfx.apply({"passes": []}, gfx.zoo.build("dcgan", ngf=4).eval()))
        >>> len(facts.pairs), facts.stages[0].stage
        (5, 'up')
    """
    stored = report(module) if stored is None else stored
    program = trace(module, check=False)
    propagate(program)
    cost = cost_of(program)
    was = () if stored.record is None else stored.record.layers
    pairs = paired(layers_of(program, cost), was)
    families, why = _families(program, pairs)
    return ResultFacts(
        stored,
        program,
        cost,
        was,
        tuple(pairs),
        tuple(by_stage(pairs, was, stored.before, cost)),
        tuple(families),
        why,
        network_of(program),
        compared(program, stored.record),
    )


def with_original(stored: Report, original: nn.Module, inputs: object = None) -> Report:
    """Replaces the record of the original in a report.

    Raises: InputError if the given model is not the one of the report.
    """
    program = trace(original, inputs)
    cost = cost_of(program)
    if stored.before is not None and replace(cost, nodes=()) != stored.before:
        raise InputError(
            f"--original is a {type(original).__name__} of {cost.params:,} parameters and "
            f"{cost.macs.exact:,} MACs, and the file was made from a {stored.source} of "
            f"{stored.before.params:,} and {stored.before.macs.exact:,}; give the model that "
            "gfx apply was given"
        )
    seed = stored.recipe.get("seed")
    return replace(stored, record=record_of(program, cost, seed=seed if type(seed) is int else 0))


def _families(program: Program, pairs: Sequence[Pair]) -> tuple[list[Family], str]:
    try:
        return families_of(analyse(program), pairs), ""
    except GfxError as error:
        return [], str(error)
