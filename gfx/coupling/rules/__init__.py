"""Maps operation names to the rules that say what they do to channels."""

from collections.abc import Callable
from typing import Any

from torch import nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.rules import (
    concat as mixing,
)
from gfx.coupling.rules import (
    convolution as contraction,
)
from gfx.coupling.rules import (
    creation as sources,
)
from gfx.coupling.rules import (
    elementwise as pointwise,
)
from gfx.coupling.rules import (
    gfx_modules as masks,
)
from gfx.coupling.rules import (
    indexing as lookup,
)
from gfx.coupling.rules import (
    movement,
    norms,
    spatial,
)
from gfx.coupling.rules import (
    pairwise as pairs,
)
from gfx.coupling.rules import (
    reductions as statistics,
)
from gfx.ir.modules import is_known

__all__ = ["FUNCTIONS", "MODULES", "Rule", "function_rule", "module_rule"]

Rule = Callable[[Flow, Call], Any]

FUNCTIONS: dict[str, Rule] = {
    **contraction.FUNCTIONS,
    **norms.FUNCTIONS,
    **mixing.FUNCTIONS,
    **statistics.FUNCTIONS,
    **spatial.FUNCTIONS,
    **movement.FUNCTIONS,
    **lookup.FUNCTIONS,
    **pairs.FUNCTIONS,
    **sources.FUNCTIONS,
    **pointwise.FUNCTIONS,
}
MODULES: dict[type[nn.Module], Rule] = {
    **contraction.MODULES,
    **masks.MODULES,
    **norms.MODULES,
    **mixing.MODULES,
    **statistics.MODULES,
    **spatial.MODULES,
    **movement.MODULES,
    **pairs.MODULES,
    **pointwise.MODULES,
}


def function_rule(name: str) -> Rule | None:
    """Finds the rule of a function or method by its canonical name."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    return pointwise.elementwise if pointwise.is_pointwise(name) else None


def module_rule(module: nn.Module) -> Rule | None:
    """Finds the rule of a layer of torch.nn or gfx by its class or the nearest base class."""
    if not is_known(module):
        return None
    return next((MODULES[kind] for kind in type(module).__mro__ if kind in MODULES), None)
