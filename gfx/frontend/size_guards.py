"""Finds which sizes of the inputs an exported graph stands for.

Where forward decides by a size (`if h % 64`), torch.export follows one branch and writes a guard.
The normal form has no guards, so what they ask of the sizes is told in words.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any

import torch

__all__ = ["decisions", "sizes_in_words"]

_REACH = 4  # sizes are tried up to so many times the example's, and 64 at least


@contextmanager
def decisions(forward: CodeType) -> Iterator[set[Any]]:
    """Collects what code inside of a function asks of symbolic sizes, as sympy conditions.

    What an operation asks inside of itself is left out: it decides how to compute, not what, or
    else the operation refuses the sizes when the graph runs.
    """
    from torch.fx.experimental.sym_node import SymNode

    node: Any = SymNode
    found: set[Any] = set()
    plain = {name: getattr(node, name) for name in ("guard_bool", "guard_int")}

    def noting(name: str) -> Any:
        def guard(self: Any, file: str, line: int) -> Any:
            value = plain[name](self, file, line)
            if _asked_by(forward):
                found.add((self.expr, value))
            return value

        return guard

    for name in plain:
        setattr(node, name, noting(name))
    try:
        yield found
    finally:
        for name, method in plain.items():
            setattr(node, name, method)


def _asked_by(forward: CodeType) -> bool:
    """Whether the code that runs was called by a function, and by no operation in between."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code is forward:
            return True
        if frame.f_code.co_name == "__torch_dispatch__":
            return False
        frame = frame.f_back
    return False


def sizes_in_words(
    found: set[Any], shapes: Sequence[Sequence[Any]], example: Sequence[Sequence[int]]
) -> Iterator[tuple[int, str]]:
    """Yields the number of each input whose sizes are restricted, and in which way.

    `shapes` are those of the exported inputs, with open sizes; `example` those it was traced on.
    """
    symbols = {
        size.node.expr: int(size.node.hint)  # a batch of 1 is exported as one of 2
        for shape in shapes
        for size in shape
        if isinstance(size, torch.SymInt)
    }
    asked = [pair for pair in found if getattr(pair[0], "free_symbols", None)]
    for i, shape in enumerate(shapes):
        told = []
        for dim, size in enumerate(shape):
            if not isinstance(size, torch.SymInt):
                continue
            symbol = size.node.expr
            own = [pair for pair in asked if symbol in pair[0].free_symbols]
            most = max(64, _REACH * int(example[i][dim]))
            good = [n for n in range(1, most + 1) if _holds(own, {**symbols, symbol: n})]
            words = _words(good, most)
            if words:
                told.append(f"dimension {dim} {words}")
        if told:
            yield i, " and ".join(told)


def _holds(asked: Sequence[Any], sizes: dict[Any, int]) -> bool:
    """Whether the code would decide at these sizes as it did; what cannot be told does not."""
    try:
        return all(e.xreplace(sizes) == value for e, value in asked)
    except (ArithmeticError, TypeError, ValueError, AssertionError):
        return False


def _words(good: Sequence[int], most: int) -> str:
    """Writes which of the sizes from 1 are good; "" if all of them."""
    if not good:
        return "is that of the example"
    if len(good) == 1:
        return f"is {good[0]}"
    low, step = good[0], good[1] - good[0]
    if list(good) == list(range(low, most + 1, step)):
        if step > 1 and low % step == 0:
            return f"is a multiple of {step}" + (f", from {low}" if low > step else "")
        if step == 1:
            return f"is at least {low}" if low > 2 else ""
    if list(good) == list(range(low, good[-1] + 1)):
        if low > 2:
            return f"is from {low} to {good[-1]}"
        return f"is at most {good[-1]}"
    some = ", ".join(map(str, good[:4]))
    return f"is one of {some}{' and so on' if len(good) > 4 else ''}"
