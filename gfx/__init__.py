"""gfx: a torch.fx compiler that makes image generators small and fast.

    small = gfx.apply("half", model)      # recipe: path, shipped name, dict or Recipe
    print(gfx.report(small))              # what was done, refused and checked, and the cost
    gfx.save(small, "small.gfx")          # no pickle, nothing executed on load

Names are imported when they are first used: `import gfx` costs little more than torch.
"""

from importlib import import_module
from inspect import isfunction
from typing import TYPE_CHECKING, Any, Literal

from gfx.errors import (
    ArchiveError,
    BudgetError,
    EditError,
    ExportError,
    GfxError,
    InputError,
    PreconditionError,
    RecipeError,
    RegistryError,
    TimingError,
    TraceError,
    VerificationError,
)

if TYPE_CHECKING:
    from torch import nn

    from gfx import progress, testing, train, tune, zoo
    from gfx.compression.taps import adapters, tapped
    from gfx.contract import Change, Context, Keeps, Outcome, Pass, Skip
    from gfx.costs import Budget, Cost
    from gfx.coupling import Groups
    from gfx.deploy.bench import Bench, bench
    from gfx.deploy.export import Exported, export
    from gfx.frontend import trace
    from gfx.io.archive import ModelPath, load, open_model, save
    from gfx.io.data import ImageFolder as images
    from gfx.ir.program import Program, Provenance
    from gfx.pipeline import apply
    from gfx.pipeline.recipe import Recipe
    from gfx.pipeline.registry import passes
    from gfx.pipeline.report import Report, report
    from gfx.reports.front import FrontSearch, search
    from gfx.reports.run import CompressionRun, compress
    from gfx.reports.sensitivity import inspect
    from gfx.train.schedule import Schedule, schedule
    from gfx.train.supernet import Supernet, supernet

__all__ = [
    "ArchiveError",
    "Bench",
    "Budget",
    "BudgetError",
    "Change",
    "CompressionRun",
    "Context",
    "Cost",
    "EditError",
    "ExportError",
    "Exported",
    "FrontSearch",
    "GfxError",
    "Groups",
    "InputError",
    "Keeps",
    "Outcome",
    "Pass",
    "PreconditionError",
    "Program",
    "Provenance",
    "Recipe",
    "RecipeError",
    "RegistryError",
    "Report",
    "Schedule",
    "Skip",
    "Supernet",
    "TimingError",
    "TraceError",
    "VerificationError",
    "adapters",
    "apply",
    "bench",
    "channels",
    "compress",
    "cost",
    "export",
    "images",
    "inspect",
    "load",
    "open_model",
    "passes",
    "progress",
    "report",
    "save",
    "schedule",
    "search",
    "supernet",
    "tapped",
    "testing",
    "trace",
    "train",
    "tune",
    "zoo",
]

_HOMES = {
    "Bench": "gfx.deploy.bench",
    "Budget": "gfx.costs",
    "Change": "gfx.contract",
    "CompressionRun": "gfx.reports.run",
    "Context": "gfx.contract",
    "Cost": "gfx.costs",
    "Exported": "gfx.deploy.export",
    "FrontSearch": "gfx.reports.front",
    "Groups": "gfx.coupling",
    "Keeps": "gfx.contract",
    "Outcome": "gfx.contract",
    "Pass": "gfx.contract",
    "Program": "gfx.ir.program",
    "Provenance": "gfx.ir.program",
    "Recipe": "gfx.pipeline.recipe",
    "Report": "gfx.pipeline.report",
    "Schedule": "gfx.train.schedule",
    "Skip": "gfx.contract",
    "Supernet": "gfx.train.supernet",
    "adapters": "gfx.compression.taps",
    "apply": "gfx.pipeline",
    "bench": "gfx.deploy.bench",
    "compress": "gfx.reports.run",
    "export": "gfx.deploy.export",
    "images": "gfx.io.data",
    "inspect": "gfx.reports.sensitivity",
    "load": "gfx.io.archive",
    "open_model": "gfx.io.archive",
    "passes": "gfx.pipeline.registry",
    "report": "gfx.pipeline.report",
    "save": "gfx.io.archive",
    "schedule": "gfx.train.schedule",
    "search": "gfx.reports.front",
    "supernet": "gfx.train.supernet",
    "tapped": "gfx.compression.taps",
    "trace": "gfx.frontend",
}
_NAMES = {"images": "ImageFolder"}  # where the name here is another
_MODULES = ("progress", "testing", "train", "tune", "zoo")


def cost(model: "nn.Module | Program | ModelPath", example_inputs: Any = None) -> "Cost":
    """Counts what a model costs: MACs in three conventions, parameters and bytes, by node.

    Units: multiply-accumulates, bytes; from shapes alone, for one run of the example inputs.

    Raises: GfxError if the model cannot be traced or does not run on the inputs.

    Example:
        >>> cost(import_module("gfx.zoo").build("dcgan")).params
        3576704
    """
    from gfx.costs import cost_of

    with _ambient().neutral_modes(model):
        return cost_of(_program(model, example_inputs, check=False))  # shapes are all it reads


def channels(
    model: "nn.Module | Program | ModelPath",
    example_inputs: Any = None,
    *,
    attention: Literal["width", "heads"] = "width",
    group_norm: Literal["auto", "whole", "regroup"] = "auto",
) -> "Groups":
    """Finds the channels that must be kept or removed together.

    `attention` and `group_norm` say what one channel of multi-head attention or of a GroupNorm is,
    as the fields of channel_prune do.

    Raises: GfxError if the model cannot be traced or does not run on the inputs.

    Example: `gfx.channels(gfx.trace(model))` → groups, each with its members and, where it is
    pinned, the reason.
    """
    from gfx.coupling import analyse

    with _ambient().neutral_modes(model):
        program = _program(model, example_inputs)
        return analyse(program, attention=attention, group_norm=group_norm)


def _ambient() -> Any:
    """Imports what shields the verbs from the modes of their caller."""
    return import_module("gfx.ir.ambient_modes")


def _program(
    model: "nn.Module | Program | ModelPath", example_inputs: Any, *, check: bool = True
) -> "Program":
    from gfx.frontend import trace
    from gfx.ir.program import Program

    return model if isinstance(model, Program) else trace(model, example_inputs, check=check)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"gfx.{name}")
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), _NAMES.get(name, name))
        if isfunction(found):  # a verb: whatever modes its caller is in, it does the same
            globals()[name] = found = _ambient().in_neutral_modes(found)
        return found
    raise AttributeError(f"module 'gfx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
