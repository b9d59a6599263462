"""Expresses a node's multiply-accumulates as polynomials: the counting formulas, run on symbols."""

from typing import Any

from torch import Tensor, fx, nn

from gfx.costs import mac_formulas as formulas
from gfx.costs.cost import Macs, NodeCost
from gfx.costs.function_macs import function_macs
from gfx.costs.symbolic.sizes import Number, Symbols
from gfx.coupling.labelled_tensor import Labeled

__all__ = ["work"]


class _Shaped:
    """Stands for a tensor of which a formula reads the shape."""

    def __init__(self, shape: tuple[Number, ...]) -> None:
        self.shape = shape


def work(symbols: Symbols, node: fx.Node, row: NodeCost) -> tuple[Number, Number, Number]:
    """Returns a node's MACs in the three conventions as polynomials in the widths.

    Where no formula says how they follow the shapes, the rules of the analysis do
    (`Groups.mac_sizes`), and without those the node costs what it costs.
    """
    if node in symbols.groups.constants.hidden | symbols.groups.constants.weight_statistics:
        left = symbols.gone(node) * -1 + 1
        return row.macs.exact * left, row.macs.output * left, row.macs.output_norm * left
    now = (row.macs.exact, row.macs.output, row.macs.output_norm)
    found = _formula(symbols, node)
    if found is not None:
        each: tuple[Any, ...] = (found.exact, found.output, found.output_norm)
        if all(symbols.full(a) == b for a, b in zip(each, now, strict=True)):
            return each
    share: Number = 1
    for ids in symbols.groups.mac_sizes(node):
        share = share * symbols.size(ids)
    whole = symbols.full(share)
    exact, output, output_norm = (macs / whole * share for macs in now)
    return exact, output, output_norm


def _formula(symbols: Symbols, node: fx.Node) -> Macs | None:
    """Runs the formula of a node on symbols; None if it has none that takes them."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: _stand_in(symbols, n))
    out = _stand_in(symbols, node)
    if not isinstance(out, _Shaped):
        return None
    if node.op == "call_module":
        return _module(symbols, node, args, kwargs, out)
    try:
        return function_macs(node, args, kwargs, out)
    except (AttributeError, TypeError):  # an argument in a form that only numbers have
        return None


def _module(symbols: Symbols, node: fx.Node, args: Any, kwargs: Any, out: Any) -> Macs | None:
    module = symbols.groups.program.submodule(node)
    x = args[0] if args else kwargs.get("input")
    if isinstance(module, nn.modules.conv._ConvNd):
        weight = symbols.tensor(f"{node.target}.weight")
        return formulas.conv(x.shape, weight, out.shape, transposed=module.transposed)  # type: ignore[arg-type]
    if isinstance(module, nn.Linear):
        return formulas.contraction(out.shape, x.shape[-1])
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return formulas.instance_norm(out.shape)
    return None


def _stand_in(symbols: Symbols, node: fx.Node) -> Any:
    value, labeled = node.meta["val"], symbols.groups.value_of(node)
    if isinstance(labeled, Labeled):
        return _Shaped(symbols.shape(labeled))
    return _Shaped(tuple(value.shape)) if isinstance(value, Tensor) else value
