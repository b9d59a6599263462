"""Writes the report of a run."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from gfx.costing import Cost
from gfx.program import Program
from gfx.recipe import InputSpec, Recipe
from gfx.reporting import PassReport, Report

__all__ = ["specs", "told"]


def told(
    program: Program,
    recipe: Recipe,
    before: Cost,
    after: Cost,
    passes: tuple[PassReport, ...],
    verify: bool,
) -> Report:
    """Returns the report of a recipe that has run."""
    inputs = specs(program.example_inputs)
    origin = program.provenance
    return Report(
        source=origin.source,
        frontend=origin.frontend,
        inputs=tuple(_describe(value) for value in program.example_inputs),
        assumed=origin.assumed,
        opaque=origin.opaque,
        notes=origin.notes,
        before=replace(before, nodes=()),
        after=replace(after, nodes=()),
        passes=passes,
        verified=verify,
        recipe=replace(recipe, input=inputs or recipe.input).spec(),
        gfx_version=_version(),
        torch_version=str(torch.__version__),
    )


def specs(inputs: tuple[Any, ...]) -> tuple[InputSpec, ...]:
    """Writes inputs the way a recipe does; nothing if one is no tensor."""
    if not all(isinstance(x, torch.Tensor) for x in inputs):
        return ()
    return tuple(InputSpec(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs)


def _describe(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape))}"


def _version() -> str:
    try:
        return version("gfx-compiler")
    except PackageNotFoundError:
        return "from source"
