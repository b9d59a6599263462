"""Writes what a forward asserts of its inputs' sizes as rules.

Symbolic trace goes on behind an `assert`. One about values holds on the example, and no graph can
carry it. One about sizes (`assert h % 8 == 0`) is a rule of the program, which refuses what the
model refuses.
"""

import ast
import operator
from collections.abc import Iterable
from typing import Any

from torch import fx

__all__ = ["asserted_rules"]

_INFIX = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.mod: "%",
    operator.floordiv: "//", operator.truediv: "/", operator.pow: "**",
    operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=",
    operator.gt: ">", operator.ge: ">=", operator.and_: "&", operator.or_: "|",
}  # fmt: skip


def asserted_rules(asserted: Iterable[fx.Node]) -> tuple[str, ...]:
    """Returns the rules that follow from what was asserted; others than of input sizes give none.

    Example:
        >>> graph = fx.Graph()
        >>> shape = graph.call_function(getattr, (graph.placeholder("x"), "shape"))
        >>> height = graph.call_function(operator.getitem, (shape, 2))
        >>> rest = graph.call_function(operator.mod, (height, 8))
        >>> asserted_rules([graph.call_function(operator.eq, (rest, 0))])
        ('x.shape[2] % 8 == 0',)
    """
    found: dict[str, None] = {}
    for node in asserted:
        try:
            text = _text(node)
        except _NoRuleError:
            continue
        if ".shape[" in text or ".ndim" in text:
            found[ast.unparse(ast.parse(text))] = None  # fewer brackets
    return tuple(found)


class _NoRuleError(Exception):
    """Says that a value is of no kind that a rule may speak of."""


def _text(value: Any) -> str:
    """Writes a size, or what is computed of sizes alone."""
    if isinstance(value, bool | int | float):
        return repr(value)
    if not isinstance(value, fx.Node):
        raise _NoRuleError
    first: Any = value.args[0] if value.args else None
    if value.op == "call_function" and value.target in _INFIX and len(value.args) == 2:
        return f"({_text(first)} {_INFIX[value.target]} {_text(value.args[1])})"
    if value.op == "call_function" and value.target is getattr and value.args[1] == "ndim":
        return f"{_input(first)}.ndim"
    if value.op == "call_method" and value.target == "dim" and len(value.args) == 1:
        return f"{_input(first)}.ndim"
    if value.op == "call_method" and value.target == "size" and len(value.args) == 2:
        return f"{_input(first)}.shape[{_number(value.args[1])}]"
    if value.op == "call_function" and value.target is operator.getitem:
        return f"{_shape(first)}[{_number(value.args[1])}]"
    raise _NoRuleError


def _shape(value: Any) -> str:
    """Writes the shape of an input."""
    if isinstance(value, fx.Node):
        read = value.op == "call_function" and value.target is getattr and value.args[1] == "shape"
        if read or (value.op == "call_method" and value.target == "size" and len(value.args) == 1):
            return f"{_input(value.args[0])}.shape"
    raise _NoRuleError


def _input(value: Any) -> str:
    """Writes an input, or a tensor in one."""
    if isinstance(value, fx.Node) and value.op == "placeholder":
        return str(value.target)
    if isinstance(value, fx.Node) and value.target is operator.getitem:
        key = value.args[1]
        if isinstance(key, int | str):
            return f"{_input(value.args[0])}[{key!r}]"
    raise _NoRuleError


def _number(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _NoRuleError
