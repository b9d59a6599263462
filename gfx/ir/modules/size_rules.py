"""Holds a program to the inputs for which it was traced: a layer that reads sizes, and no values.

Where forward decides by a size (`if w > 10`), a graph holds one branch. A rule says when that is
the branch of the model. Rules are text in a small part of Python, and are never run as code.
"""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SizeRules", "follows"]

_MOST = 64  # of an exponent or a shift: rules may come from a file
_OPERATORS: dict[type, str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv",
    ast.Mod: "mod", ast.Pow: "pow", ast.LShift: "lshift", ast.RShift: "rshift",
    ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor", ast.USub: "neg", ast.Not: "not_",
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip
_MATH = frozenset("ceil cos exp floor log log10 log2 sin sqrt tan tanh trunc".split())
_CALLS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in _OPERATORS.values()},
    **{f"math.{name}": getattr(math, name) for name in _MATH},
    **{"int": int, "float": float, "round": round, "abs": abs, "len": len},
    **{"list": list, "sorted": sorted},
}


class SizeRules(nn.Module):
    """Refuses inputs whose sizes break a rule; returns nothing, and computes nothing.

    `names` are those of the inputs that it is called with, and the rules speak of these: sizes
    (`x.shape[3]`), ranks (`x.ndim`), dtypes (`x.dtype == 'torch.float32'`), items (`x[0]`), lengths
    (`len(x)`), keys (`sorted(x)`), numbers, arithmetic, comparisons and functions of `math`.

    Raises: ValueError if a rule says anything else. A call that breaks a rule raises
    gfx.errors.InputError.

    Example:
        >>> rules = SizeRules(("x",), ("x.shape[1] % 8 == 0",))
        >>> rules(torch.ones(2, 16)), rules
        (None, SizeRules(x.shape[1] % 8 == 0))
    """

    _is_impure = True  # torch.fx keeps the call, although nothing reads its result

    def __init__(self, names: tuple[str, ...] = (), rules: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.names = tuple(names)
        self.rules = tuple(rules)
        self.parsed = tuple(_parse(rule, self.names) for rule in self.rules)

    def forward(self, *inputs: Any) -> None:
        """Checks the inputs; values that are traced have no sizes yet, and pass."""
        jit: Any = torch.jit
        if jit.is_tracing() or any(isinstance(x, torch.fx.Proxy) for x in inputs):
            return
        for rule, tree in zip(self.rules, self.parsed, strict=True):
            if not _holds(tree, inputs):
                raise _broken(rule, self.names, inputs)

    def extra_repr(self) -> str:
        """Writes the rules."""
        return ", ".join(self.rules)


def follows(rule: str, names: tuple[str, ...], inputs: tuple[Any, ...]) -> bool:
    """Whether inputs follow a rule.

    Example:
        >>> follows("len(x) == 2", ("x",), ([1, 2],))
        True
    """
    return _holds(_parse(rule, names), inputs)


def _holds(tree: Any, inputs: tuple[Any, ...]) -> bool:
    """Whether a rule holds; one about what is not there, such as a dimension, does not."""
    try:
        return bool(_value(tree, inputs))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False


def _value(tree: Any, inputs: tuple[Any, ...]) -> Any:
    """Computes what a parsed rule says of the inputs."""
    name, *parts = tree
    if name == "is":
        return parts[0]
    if name == "input":
        return inputs[parts[0]]
    if name == "all":
        return all(_value(part, inputs) for part in parts)
    if name == "any":
        return any(_value(part, inputs) for part in parts)
    values = [_value(part, inputs) for part in parts]
    if name == "items":
        return values
    if name == "shape":
        return values[0].shape
    if name == "ndim":
        return len(values[0].shape)
    if name == "dtype":
        return str(values[0].dtype)
    if name == "item":
        return values[0][values[1]]
    if name in ("max", "min"):
        found = values[0]
        for value in values[1:]:
            pick: Any = torch.sym_max if name == "max" else torch.sym_min
            found = pick(found, value)
        return found
    if name in ("pow", "lshift") and abs(values[1]) > _MOST:
        raise ValueError("too large")
    return _CALLS[name](*values)


def _parse(rule: str, names: tuple[str, ...]) -> Any:
    """Reads a rule as nested tuples.

    Raises: ValueError if it is none.
    """
    try:
        return _tree(ast.parse(rule, mode="eval").body, names)
    except (SyntaxError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"{rule!r} is no rule about the sizes of {', '.join(names)}") from error


def _tree(node: ast.AST, names: tuple[str, ...]) -> Any:
    """Reads one part of a rule; raises KeyError or TypeError at what rules have not."""

    def inner(part: ast.AST) -> Any:
        return _tree(part, names)

    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return ("is", node.value)
    if isinstance(node, ast.List):
        return ("items", *map(inner, node.elts))
    if isinstance(node, ast.Name) and node.id in names:
        return ("input", names.index(node.id))
    if isinstance(node, ast.Attribute) and node.attr in ("shape", "ndim", "dtype"):
        return (node.attr, inner(node.value))
    if isinstance(node, ast.Subscript):
        return ("item", inner(node.value), inner(node.slice))
    if isinstance(node, ast.UnaryOp):
        return (_OPERATORS[type(node.op)], inner(node.operand))
    if isinstance(node, ast.BinOp):
        return (_OPERATORS[type(node.op)], inner(node.left), inner(node.right))
    if isinstance(node, ast.BoolOp):
        return ("all" if isinstance(node.op, ast.And) else "any", *map(inner, node.values))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return (_OPERATORS[type(node.ops[0])], inner(node.left), inner(node.comparators[0]))
    if isinstance(node, ast.Call) and not node.keywords:
        name = ast.unparse(node.func)
        if name in ("max", "min") or name in _CALLS:
            return (name, *map(inner, node.args))
    raise TypeError(ast.dump(node))


def _broken(rule: str, names: tuple[str, ...], inputs: tuple[Any, ...]) -> Exception:
    """Makes the error for inputs that break a rule."""
    from gfx.errors import InputError

    spoken = {n.id for n in ast.walk(ast.parse(rule)) if isinstance(n, ast.Name)}
    given = [f"{n} is {_form(x)}" for n, x in zip(names, inputs, strict=True) if n in spoken]
    what = "dtypes" if ".dtype" in rule else "sizes"
    return InputError(
        f"the program was traced for inputs with {rule}, which does not hold here: "
        f"{', '.join(given)}; at these {what} the model's forward may go another way, so trace the "
        f"model anew with example_inputs of these {what}"
    )


def _form(value: Any) -> str:
    """Writes the sizes of an input: `1x3x16x9`, `[1x8, 1x16]`."""
    if isinstance(value, Tensor):
        dtype = "" if value.dtype == torch.float32 else f" of {value.dtype}"
        return ("x".join(map(str, value.shape)) or "one number") + dtype
    if isinstance(value, list | tuple):
        return f"{len(value)} items [{', '.join(map(_form, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_form(item)}' for key, item in value.items())}}}"
    return repr(value)[:60]
