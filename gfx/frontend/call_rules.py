"""Writes rules about the form of a call: the keys, lengths and plain values of inputs, and ranks.

1. The length of a list of tensors, the keys of a dictionary, and plain values beside them are those
   of the example: forward saw no others.
2. So is the order of a dictionary's keys, if the model computes something else in another order.
3. So is the rank of a tensor, where torch.export followed forward and the graph computes something
   else than the model at another rank: what forward asks of ranks leaves no trace there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from gfx.frontend.compare import difference, run
from gfx.frontend.equivalence import EquivalenceCheck
from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.size_conditions import plain_value, tensor_paths
from gfx.frontend.symbolic_sizes import other_ranks, values_at
from gfx.ir.execute import draw_like

__all__ = ["dtype_rules", "order_rules", "rank_rules", "structure_rules"]

_SIMPLE = (bool, int, float, str, type(None))


def structure_rules(arguments: Arguments) -> tuple[str, ...]:
    """Writes rule 1.

    Example:
        >>> from torch import nn
        >>> from gfx.frontend.inputs.bind import bind
        >>> structure_rules(bind(nn.ReLU(), ({"x": torch.ones(1), "scale": 2},)))
        ("sorted(input) == ['scale', 'x']", "input['scale'] == 2")
    """
    return tuple(
        rule
        for item in arguments.items
        if item.is_input
        for rule in _structure(item.name, plain_value(item))
    )


def order_rules(check: EquivalenceCheck) -> tuple[str, ...]:
    """Writes rule 2; without a comparison by value, of every dictionary."""
    arguments = check.arguments
    rules = tuple(
        rule for item in arguments.items if item.is_input for rule in _orders(item.name, item.value)
    )
    if not rules or not check.by_value:
        return rules
    generator = torch.Generator().manual_seed(2)
    fresh = arguments.map(lambda tensor: draw_like(tensor, generator))
    items = tuple(replace(item, value=_turned(item.value)) for item in fresh.items)
    turned = replace(fresh, items=items)
    try:
        results = [
            run(check.model, lambda a: a.call(check.model, a.values()), given, training=False)
            for given in (fresh, turned)
        ]
    except Exception:  # the model asks for an order, or for values like the example's
        return rules
    return rules if difference(*results) else ()


def rank_rules(
    module: fx.GraphModule, check: EquivalenceCheck, rules: Iterable[str]
) -> tuple[str, ...]:
    """Writes rule 3, beside rules that there are; without a comparison, wherever it runs."""
    known = set(rules)
    found: dict[str, None] = {}
    for ranks, other in other_ranks(check.arguments):
        new = [rank for rank in ranks if rank not in known and rank not in found]
        if not new or values_at(module, module.graph, other, ()) is None:
            continue
        if not check.by_value or _differ(check.model, module, other):
            found |= dict.fromkeys(new)
    return tuple(found)


def dtype_rules(module: fx.GraphModule, check: EquivalenceCheck) -> tuple[str, ...]:
    """Writes rule 4; without a comparison by value, none."""
    places = [(p, t) for p, t in tensor_paths(check.arguments) if t.is_floating_point()]
    model = check.model
    if not places or not check.by_value:
        return ()
    for dtype in {torch.float64, torch.float32} - {tensor.dtype for _, tensor in places}:
        given = check.arguments.map(partial(_of_dtype, dtype=dtype))
        try:
            got = run(module, lambda a: module(*a.inputs()), given, training=False)
        except Exception:  # it refuses such inputs by itself
            continue
        try:
            wanted = run(model, lambda a: a.call(model, a.values()), given, training=False)
        except Exception:  # whatever a model raises
            wanted = None
        if wanted is None or difference(wanted, got) is not None:
            return tuple(f"{path}.dtype == {str(tensor.dtype)!r}" for path, tensor in places)
    return ()


def _of_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _differ(model: nn.Module, module: fx.GraphModule, arguments: Arguments) -> bool:
    """Whether a model refuses inputs, or computes something else than its graph."""
    try:
        wanted = run(model, lambda a: a.call(model, a.values()), arguments, training=False)
        got = run(module, lambda a: module(*a.inputs()), arguments, training=False)
    except Exception:  # whatever a model raises at a rank that it does not take
        return True
    return difference(wanted, got) is not None


def _structure(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, list | tuple):
        if not hasattr(value, "_fields"):
            yield f"len({path}) == {len(value)}"
        for i, part in enumerate(value):
            yield from _structure(f"{path}[{i}]", part)
    elif isinstance(value, dict):
        named = all(isinstance(key, str) for key in value)
        yield f"sorted({path}) == {sorted(value)}" if named else f"len({path}) == {len(value)}"
        for key, part in value.items():
            yield from _structure(f"{path}[{key!r}]", part)
    elif isinstance(value, _SIMPLE):
        yield f"{path} == {value!r}"


def _orders(path: str, value: Any) -> Iterator[str]:
    """Yields the order of each dictionary that code can spell."""
    if type(value) is dict:
        if len(value) > 1 and all(isinstance(key, str | int) for key in value):
            yield f"list({path}) == {list(value)}"
        for key, part in value.items():
            yield from _orders(f"{path}[{key!r}]", part)
    elif type(value) in (list, tuple):
        for i, part in enumerate(value):
            yield from _orders(f"{path}[{i}]", part)


def _turned(value: Any) -> Any:
    """Reverses the order of all dictionaries."""
    if type(value) is dict:
        return {key: _turned(part) for key, part in reversed(value.items())}
    return type(value)(map(_turned, value)) if type(value) in (list, tuple) else value
