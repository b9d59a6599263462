"""Finds which sizes of the inputs an exported graph stands for.

Where forward decides by a size (`if h % 64`), torch.export follows one branch and writes a guard.
The normal form has no guards, so what forward asks of the sizes is collected here.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch

__all__ = ["FORMING", "Decisions", "decisions"]

_ASKING = ("guard_bool", "guard_int", "guard_float", "expect_true")
# operations whose result has so many parts, or dimensions, as the sizes say
FORMING = frozenset(
    "chunk dsplit hsplit split split_with_sizes squeeze tensor_split unbind unsafe_chunk "
    "unsafe_split unsafe_split_with_sizes vsplit".split()
)


@dataclass
class Decisions:
    """What code asked of symbolic sizes: sympy expressions, and what they were taken for."""

    asked: dict[tuple[Any, Any], None] = field(default_factory=dict)  # in order
    shapes: list[list[Any]] = field(default_factory=list)  # of the inputs: symbols and numbers

    def enter(self, tensors: Sequence[torch.Tensor]) -> None:
        """Notes the sizes of the inputs, before any of them is asked for."""
        self.shapes = [
            [n.node._expr if isinstance(n, torch.SymInt) else int(n) for n in t.shape]
            for t in tensors
        ]

    def note(self, expression: Any, value: Any) -> None:
        """Notes one answer; what holds no symbols is no decision by a size."""
        if getattr(expression, "free_symbols", None):
            self.asked[expression, value] = None


@contextmanager
def decisions(forward: CodeType) -> Iterator[Decisions]:
    """Collects what code inside of a function asks of symbolic sizes.

    What an operation asks inside of itself is left out: it decides how to compute, not what, or
    else the operation refuses the sizes when the graph runs. But an operation counts that returns
    so many tensors as the sizes say: the graph reads some of them, by their numbers.
    """
    from torch.fx.experimental.sym_node import SymNode

    node: Any = SymNode
    found = Decisions()
    plain = {name: getattr(node, name) for name in _ASKING}

    def noting(name: str) -> Any:
        def guard(self: Any, file: str, line: int) -> Any:
            expression = self.expr  # an answer may make it a number
            value = plain[name](self, file, line)
            if _asked_by(forward):
                found.note(expression, value)
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
    operation = ""  # the outermost one
    while frame is not None:
        if frame.f_code is forward:
            return not operation or operation in FORMING
        if frame.f_code.co_name == "__torch_dispatch__":
            called = frame.f_locals.get("func")
            operation = str(getattr(called, "overloadpacket", called)).rpartition(".")[2]
        frame = frame.f_back
    return False
