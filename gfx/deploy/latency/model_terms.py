"""Lists the terms of the latency model: nodes by kind, as formulas in the widths of the groups."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from gfx.costs import cost_of
from gfx.costs.symbolic.macs import work
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.sizes import Number, Size, Symbols
from gfx.coupling import Groups
from gfx.coupling.labelled_tensor import Labeled, tensors
from gfx.deploy.latency.single_conv import ConvSite, site_of
from gfx.ir.ops import op_name

__all__ = ["Convolving", "Other", "Summand", "Sums", "Works", "works_of"]

_ROWS = 1 << 14  # configurations at once: intermediate values stay in a cache


@dataclass(frozen=True)
class Summand:
    """The latency of one node: a function of two formulas in the widths."""

    kind: str
    time: Callable[[Any, Any], NDArray[np.float64]]
    first: Number
    second: Number


class Sums:
    """Sums the latencies of the nodes of each kind; equal terms are evaluated once."""

    def __init__(self, symbols: Symbols, summands: Sequence[Summand]) -> None:
        self.kinds = tuple(dict.fromkeys(s.kind for s in summands))
        self._counts = Counter(
            (s.kind, s.time, _frozen(s.first), _frozen(s.second)) for s in summands
        )
        numbers = {_frozen(n): n for s in summands for n in (s.first, s.second)}
        self._place = {key: i for i, key in enumerate(numbers)}
        self._terms = Terms(symbols, list(numbers.values()))

    def __call__(self, widths: NDArray[Any]) -> NDArray[np.float64]:
        """Returns the milliseconds of each kind.

        Shapes: widths (configurations, groups); returns (kinds, configurations).
        """
        parts = [self._some(widths[i : i + _ROWS]) for i in range(0, len(widths), _ROWS)]
        empty = np.zeros((len(self.kinds), 0))
        return np.concatenate(parts, axis=1) if parts else empty

    def _some(self, widths: NDArray[Any]) -> NDArray[np.float64]:
        values = self._terms(widths)
        found = np.zeros((len(self.kinds), len(widths)))
        for (kind, time, first, second), count in self._counts.items():
            times = time(values[self._place[first]], values[self._place[second]])
            found[self.kinds.index(kind)] += count * times
        return found


def _frozen(number: Number) -> Any:
    return frozenset(number.terms.items()) if isinstance(number, Size) else number


_TIMED = ("call_module", "call_function", "call_method")


@dataclass(frozen=True)
class Convolving:
    """A node that is a 2-D convolution."""

    node: str
    site: ConvSite
    inputs: Number
    outputs: Number
    most: tuple[int, int, bool, bool]  # original channels, and whether they may change

    @property
    def kind(self) -> str:
        """The kind of kernel that runs the node."""
        if self.site.multiple:
            return "depthwise"
        return "transposed" if self.site.part.transposed else "convolution"


@dataclass(frozen=True)
class Other:
    """Any other node: its latency depends on elements moved and products."""

    node: str
    like: str  # equal for nodes that differ only in their channels
    kind: str
    moved: Number  # elements read and written
    macs: Number


@dataclass(frozen=True)
class Works:
    """The terms of a program."""

    convolving: tuple[Convolving, ...]
    others: tuple[Other, ...]


def works_of(groups: Groups, symbols: Symbols) -> Works:
    """Lists the terms of the program of some groups.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> works = works_of(groups, Symbols(groups))
        >>> [work.kind for work in works.convolving][:2], works.others[0].kind
        (['transposed', 'transposed'], 'norm')
    """
    rows = {row.node: row for row in cost_of(groups.program).nodes}
    convolving, others = [], []
    for node in groups.program.nodes():
        if node.op not in _TIMED:
            continue
        found = _convolving(groups, symbols, node)
        if found is not None:
            convolving.append(found)
        else:
            others.append(_other(groups, symbols, node, rows[node.name]))
    return Works(tuple(convolving), tuple(others))


def _convolving(groups: Groups, symbols: Symbols, node: fx.Node) -> Convolving | None:
    if node.op != "call_module" or len(node.all_input_nodes) != 1:
        return None
    module: Any = groups.program.submodule(node)
    read = node.all_input_nodes[0]
    value = read.meta["val"]
    site = site_of(module, tuple(value.shape)) if hasattr(value, "shape") else None
    if site is None:
        return None
    inputs, outputs = _channels(symbols, read), _channels(symbols, node)
    most = (module.in_channels, module.out_channels, _varies(inputs), _varies(outputs))
    return Convolving(node.name, site, inputs, outputs, most)


def _other(groups: Groups, symbols: Symbols, node: fx.Node, row: Any) -> Other:
    moved: Number = 0
    for n in (node, *node.all_input_nodes):
        for value in tensors(symbols.groups.value_of(n)):
            moved = moved + prod(symbols.shape(value))
    module = groups.program.submodule(node) if node.op == "call_module" else None
    name = type(module).__name__ if module is not None else op_name(node) or str(node.target)
    shape = getattr(node.meta["val"], "shape", ())
    macs = work(symbols, node, row)[0] if row.macs.exact else 0
    like = f"{name} {tuple(shape[2:])} {len(node.all_input_nodes)} {bool(row.macs.exact)}"
    return Other(node.name, like, _kind(name.lower()), moved, macs)


def _kind(name: str) -> str:
    return next((kind for kind in ("norm", "pad") if kind in name), "other")


def _channels(symbols: Symbols, node: fx.Node) -> Number:
    value = symbols.groups.value_of(node)
    channels = int(node.meta["val"].shape[-3])
    return symbols.shape(value)[-3] if isinstance(value, Labeled) else channels


def _varies(number: Number) -> bool:
    return isinstance(number, Size) and any(number.terms)
