"""Keeps weights without the zeros that masks left, in layouts of torch's own."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfx.ir.modules import CsrLinear, SemiStructuredLinear
from gfx.ir.program import Program

__all__ = ["Layout", "against_pattern", "lay_out", "unfit"]

Layout = Literal["dense", "csr", "2:4"]
Sparse = Literal["csr", "2:4"]

_HALF = (torch.float16, torch.bfloat16)
_ROWS, _COLUMNS = 32, 64  # what torch asks of a 2:4 weight in half precision


def lay_out(program: Program, paths: Iterable[str], layout: Sparse) -> dict[str, str]:
    """Puts sparse layers in the place of the linear ones that can be; says why others stay dense.

    Returns: by path the reason, "" for those that were replaced.
    """
    make: Callable[[nn.Linear], nn.Module] = CsrLinear.of
    if layout == "2:4":
        make = SemiStructuredLinear.of
    found: dict[str, str] = {}
    made: dict[int, nn.Module] = {}
    for path in paths:
        layer = program.module.get_submodule(path)
        found[path] = _refusal(program, path, layer, layout)
        if not found[path]:
            assert isinstance(layer, nn.Linear)
            if id(layer) not in made:
                made[id(layer)] = make(layer)
            program.module.set_submodule(path, made[id(layer)])
    return found


def unfit(layer: nn.Module, layout: Sparse) -> str:
    """Says what a layer's dtype or device lacks for a layout; "" if nothing.

    Example:
        >>> unfit(nn.Linear(4, 4), "2:4")
        "torch's 2:4 kernels need CUDA and float16 or bfloat16; this is float32 on cpu"
        >>> unfit(nn.Linear(4, 4), "csr")
        ''
    """
    weight: Any = layer.weight
    here = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
    if layout == "2:4" and not (weight.is_cuda and weight.dtype in _HALF):
        return f"torch's 2:4 kernels need CUDA and float16 or bfloat16; this is {here}"
    if layout == "csr" and weight.device.type == "cpu" and weight.dtype in _HALF:
        return f"torch's CSR product on the CPU needs float32 or float64; this is {here}"
    return ""


def _refusal(program: Program, path: str, layer: nn.Module, layout: Sparse) -> str:
    """Says why a layer stays dense; "" if it need not."""
    if type(layer) is not nn.Linear:
        return f"torch has no {layout} {type(layer).__name__}; its weight stays dense"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has hooks, which may read its weight"
    if any(n.op == "get_attr" and str(n.target) == f"{path}.weight" for n in program.nodes()):
        return "the graph reads its weight itself"
    owners = [p for m in program.module.modules() for p in m._parameters.values()]
    if sum(p is layer.weight for p in owners) > 1:
        return "its weight is shared with another layer"
    return unfit(layer, layout) or (against_pattern(layer.weight) if layout == "2:4" else "")


def against_pattern(weight: Tensor) -> str:
    """Says how a weight is not 2:4; "" if it is.

    Example:
        >>> against_pattern(torch.ones(32, 64))
        '512 of 512 blocks of four have more than two weights'
    """
    rows, columns = weight.shape
    if rows % _ROWS or columns % _COLUMNS:
        return f"its weight is {rows}x{columns}, torch's 2:4 needs multiples of {_ROWS}x{_COLUMNS}"
    full = int(((weight.reshape(rows, -1, 4) != 0).sum(2) > 2).sum())
    return f"{full} of {weight.numel() // 4} blocks of four have more than two weights" * bool(full)
