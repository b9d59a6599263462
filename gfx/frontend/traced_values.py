"""The values that a forward sees while it is traced, and what it may do with them.

1. Item assignment is recorded. Attribute assignment is refused: the graph would forget it.
2. Only `parameter.data = value` is followed, where the old content is never read.
3. The shape of a parameter or buffer is known, so that control flow may ask for it.
4. A value may be unpacked, `a, b = x.chunk(2)`; how many pieces it has is taken for granted.
"""

import dis
import inspect
import operator
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import fx

from gfx.frontend.inputs.bind import has_tensor

__all__ = ["TracedTensor", "TracedValue", "is_assertion", "unpack"]


def unpack(proxy: Any, value: Any) -> Any:
    """Takes an input apart as the example does: containers real, tensors as items of the proxy."""
    if isinstance(value, torch.Tensor):
        return proxy
    if not has_tensor(value):
        return value
    if isinstance(value, dict):
        return {k: unpack(proxy[k] if has_tensor(v) else None, v) for k, v in value.items()}
    items = [unpack(proxy[i] if has_tensor(v) else None, v) for i, v in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


class TracedValue(fx.Proxy):
    """A traced value that records item assignment and refuses attribute assignment (rule 1)."""

    tracer: Any  # overwrites parameters, and counts pieces

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise TypeError(f"forward assigns the attribute {name} of a tensor")
        super().__setattr__(name, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __getattr__(self, name: str) -> "TracedAttribute":
        return TracedAttribute(self, name)

    def __iter__(self) -> Iterator[Any]:
        """Unpacks into as many pieces as there are names, and notes how many (rule 4)."""
        frame = inspect.currentframe()
        return _pieces(self, frame.f_back if frame else None)


class TracedAttribute(fx.proxy.Attribute):
    """An attribute of a traced value, such as its shape, which may be unpacked (rule 4)."""

    def __iter__(self) -> Iterator[Any]:
        frame = inspect.currentframe()
        return _pieces(self, frame.f_back if frame else None)


class TracedTensor(TracedValue):
    """A parameter or buffer (rules 2 and 3)."""

    held: torch.Tensor

    def __init__(self, tracer: fx.Tracer, node: fx.Node, tensor: torch.Tensor) -> None:
        super().__init__(node, tracer)
        object.__setattr__(self, "held", tensor)  # not `self.held =`: rule 1

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data" and isinstance(value, TracedValue):
            self.tracer.overwrite(self, value)
            return
        super().__setattr__(name, value)

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.held.shape

    @property
    def ndim(self) -> int:
        """How many dimensions the tensor has."""
        return self.held.ndim

    def size(self, dim: int | None = None) -> Any:
        """Returns the shape, or the size of one dimension."""
        return self.held.shape if dim is None else self.held.shape[dim]

    def dim(self) -> int:
        """Returns how many dimensions the tensor has."""
        return self.held.dim()

    def numel(self) -> int:
        """Returns how many elements the tensor has."""
        return self.held.numel()


def is_assertion(frame: FrameType) -> bool:
    """Whether the truth value that a frame asks for decides an `assert`."""
    code = [i for i in dis.get_instructions(frame.f_code) if i.opname != "CACHE"]
    after = [i for i in code if i.offset >= frame.f_lasti]
    jump = next((n for n, i in enumerate(after[:3]) if "JUMP" in i.opname), None)
    if jump is None:
        return False
    targets = [i for i in code if i.offset == after[jump].argval]
    falls = after[jump + 1 : jump + 3] if "IF_TRUE" in after[jump].opname else targets
    return any("AssertionError" in i.argrepr or "ASSERTION_ERROR" in i.opname for i in falls)


def _pieces(value: Any, frame: FrameType | None) -> Iterator[Any]:
    """Iterates over the pieces of a value that a frame unpacks; refuses what else it does."""
    count = _unpacked(frame) if frame else None
    if count is None:
        return iter(value.tracer.iter(value))
    value.tracer.count(value.node, count)
    return (value[i] for i in range(count))


def _unpacked(frame: FrameType) -> int | None:
    """Returns into how many names a frame unpacks a value now; None if it does something else."""
    code, at = frame.f_code.co_code, frame.f_lasti
    if code[at] != dis.opmap["UNPACK_SEQUENCE"]:
        return None
    count, shift = code[at + 1], 8
    while at >= 2 and code[at - 2] == dis.EXTENDED_ARG:
        at -= 2
        count |= code[at + 1] << shift
        shift += 8
    return count
