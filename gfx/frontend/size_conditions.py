"""Writes down for which inputs a graph stands, as rules that it checks whenever it runs.

1. What forward decided by sizes, while torch.export followed it (gfx/frontend/size_guards.py).
2. A size that torch.export took for a constant, where that may have decided something. What a
   layer asks of its channels is no rule: it refuses others when it runs.
3. What forward saw of the form of the call (gfx/frontend/call_rules.py).
4. What forward takes for granted of sizes, while it is traced symbolically
   (gfx/frontend/asserted_sizes.py).
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import fx

from gfx.frontend.inputs.bind import Argument, Arguments
from gfx.frontend.refusal import Refusal
from gfx.frontend.size_guards import Decisions
from gfx.ir.modules import SizeRules, follows
from gfx.objects.take_apart import take_apart

__all__ = [
    "add_rules",
    "expression_text",
    "in_words",
    "kept_rules",
    "plain_value",
    "size_rules",
    "tensor_paths",
    "with_ranks",
]

_INFIX = {
    "Add": "+", "Mul": "*", "Mod": "%", "PythonMod": "%", "FloorDiv": "//", "CleanDiv": "//",
    "IntTrueDiv": "/", "FloatTrueDiv": "/", "Pow": "**", "PowByNatural": "**", "FloatPow": "**",
    "LShift": "<<", "RShift": ">>", "And": "and", "Or": "or", "Equality": "==",
    "Unequality": "!=", "StrictLessThan": "<", "LessThan": "<=", "StrictGreaterThan": ">",
    "GreaterThan": ">=",
}  # fmt: skip
_CALLED = {
    "Max": "max", "Min": "min", "Abs": "abs", "ToFloat": "float", "TruncToInt": "math.trunc",
    "FloorToInt": "math.floor", "CeilToInt": "math.ceil", "RoundToInt": "round", "floor":
    "math.floor", "ceiling": "math.ceil", "Identity": "",
}  # fmt: skip


def size_rules(
    found: Decisions, arguments: Arguments, shapes: Sequence[Sequence[Any]]
) -> tuple[str, ...]:
    """Writes rules 1 and 2 of an exported graph; `shapes` are those of the exported inputs."""
    places = list(tensor_paths(arguments))
    symbols: dict[Any, tuple[str, int]] = {}
    fixed: list[str] = []
    for (path, tensor), shape, last in zip(places, found.shapes, shapes, strict=True):
        for dim, size in enumerate(shape):
            now = int(tensor.shape[dim])
            if not isinstance(size, int):
                symbols.setdefault(size, (f"{path}.shape[{dim}]", now))
            constant = isinstance(size, int) or (dim != 1 and isinstance(last[dim], int))
            if constant:
                fixed.append(f"{path}.shape[{dim}] == {now}")
    asked = [_decided(expression, value, symbols) for expression, value in found.asked]
    rules = [ast.unparse(ast.parse(rule)) for rule in (*asked, *fixed) if rule]  # fewer brackets
    return with_ranks(dict.fromkeys(rules), places)


def kept_rules(rules: Iterable[str], arguments: Arguments, compared: bool) -> tuple[str, ...]:
    """Returns rules that the example follows.

    A batch of 1 is exported as one of 2, and may break a rule. Where the graph was compared with
    the model on the example, the rule is kept for all other sizes.

    Raises: Refusal if it was not.
    """
    names, inputs = _named_inputs(arguments)
    kept = []
    for rule in rules:
        if follows(rule, names, inputs):
            kept.append(rule)
        elif not compared:
            raise Refusal(f"torch.export followed forward for sizes with {rule}, not the example's")
        else:
            same = [
                f"{path}.shape[{dim}] == {size}"
                for path, tensor in tensor_paths(arguments)
                for dim, size in enumerate(tensor.shape)
                if f"{path}.shape[{dim}]" in rule
            ]
            kept.append(f"({rule}) or ({' and '.join(same)})")
    return tuple(kept)


def add_rules(module: fx.GraphModule, rules: Sequence[str], arguments: Arguments) -> None:
    """Puts a layer that checks the rules before all that a graph computes, if there are any."""
    names, _ = _named_inputs(arguments)
    inputs = {str(node.target): node for node in module.graph.nodes if node.op == "placeholder"}
    read = tuple(name for name in names if any(_speaks(rule, name) for rule in rules))
    if not rules or not read:
        return
    path = "size_rules"
    while hasattr(module, path):
        path += "_"
    module.add_submodule(path, SizeRules(read, tuple(rules)).train(module.training))
    with module.graph.inserting_after(list(inputs.values())[-1]):
        module.graph.call_module(path, tuple(inputs[name] for name in read))
    if "_code" in vars(module):
        module.recompile()


def in_words(rules: Sequence[str]) -> list[str]:
    """Says in a note for which sizes a graph stands; nothing if for all."""
    told = [rule for rule in rules if ".ndim" not in rule]
    if not told:
        return []
    return [
        f"the program stands for inputs with {'; '.join(told)}, where forward decides as on the "
        "example, and refuses others; trace the model on an input of other sizes for those"
    ]


def _decided(expression: Any, value: Any, symbols: dict[Any, tuple[str, int]]) -> str:
    """Writes rule 1 for one decision; "" if nothing follows from it."""
    known = [symbols[s] for s in sorted(expression.free_symbols, key=str) if s in symbols]
    try:
        text = expression_text(expression, symbols)
    except KeyError:  # torch has more functions than rules
        if "Indicator" in str(expression):
            return ""  # a question about strides decides how to compute
        return " and ".join(f"{name} == {size}" for name, size in known)
    if isinstance(value, bool):
        return text if value else expression_text(~expression, symbols)
    return f"{text} == {value!r}"


def expression_text(expression: Any, symbols: dict[Any, tuple[str, int]]) -> str:
    """Writes a sympy expression as a rule does.

    Raises: KeyError if it holds something that no rule can say.
    """
    if expression.is_Symbol:
        return symbols[expression][0]
    if expression.is_number and not expression.args:
        whole = expression.is_Integer or expression.is_Boolean
        return repr(int(expression)) if whole else repr(float(expression))
    name = type(expression).__name__
    numbers_last = sorted(expression.args, key=_is_number) if name == "Add" else expression.args
    parts = [expression_text(part, symbols) for part in numbers_last]
    if name == "Not":
        return f"(not {parts[0]})"
    if name == "ModularIndexing":
        return f"({parts[0]} // {parts[1]} % {parts[2]})"
    if name.startswith("OpaqueUnaryFn_"):
        return f"math.{name.partition('_')[2]}({parts[0]})"
    if name in _CALLED:
        return f"{_CALLED[name]}({', '.join(parts)})"
    return _bare(parts, _INFIX[name])


def _bare(parts: list[str], sign: str) -> str:
    """Joins parts by an operator, in brackets."""
    return f"({f' {sign} '.join(parts)})".replace("+ -", "- ")


def _is_number(expression: Any) -> bool:
    return bool(expression.is_number)


def with_ranks(rules: Iterable[str], places: Sequence[tuple[str, Any]]) -> tuple[str, ...]:
    """Puts before rules how many dimensions the tensors have that they speak of."""
    rules = list(rules)
    ranks = [
        f"{path}.ndim == {tensor.ndim}"
        for path, tensor in places
        if any(f"{path}.shape[" in rule for rule in rules)
    ]
    return (*ranks, *rules)


def plain_value(item: Argument) -> Any:
    """Returns the value of an argument with its objects taken apart."""
    return take_apart(item.value, named=False)[0]


def _named_inputs(arguments: Arguments) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    items = [item for item in arguments.items if item.is_input]
    return tuple(item.name for item in items), tuple(map(plain_value, items))


def tensor_paths(arguments: Arguments) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors of all arguments, with what rules call them."""
    for item in arguments.items:
        if item.is_input:
            yield from _inside(item.name, plain_value(item))


def _inside(path: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, list | tuple | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from _inside(f"{path}[{key!r}]", part)


def _speaks(rule: str, name: str) -> bool:
    """Whether a rule speaks of an input."""
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(ast.parse(rule)))
