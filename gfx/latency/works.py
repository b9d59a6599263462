"""What takes time in a program, as formulas in the widths of its groups."""

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from gfx.costing import cost_of
from gfx.coupling import Groups
from gfx.coupling.values import Labeled, tensors
from gfx.latency.sites import Site, site_of
from gfx.ops import op_name
from gfx.pricing.symbols import Number, Size, Symbols
from gfx.pricing.work import work

__all__ = ["Convolving", "Other", "Works", "works_of"]

_TIMED = ("call_module", "call_function", "call_method")


@dataclass(frozen=True)
class Convolving:
    """A node that is a convolution of images."""

    node: str
    site: Site
    inputs: Number
    outputs: Number
    most: tuple[int, int, bool, bool]  # channels as they are, and whether they may change

    @property
    def kind(self) -> str:
        """The kind of kernel that runs it."""
        if self.site.multiple:
            return "depthwise"
        return "transposed" if self.site.part.transposed else "convolution"


@dataclass(frozen=True)
class Other:
    """Any other node: it takes what it takes for each element it moves, and each product."""

    node: str
    like: str  # the same text for nodes that are alike but for their channels
    kind: str
    moved: Number  # elements read and given
    macs: Number


@dataclass(frozen=True)
class Works:
    """All that takes time in a program."""

    convolving: tuple[Convolving, ...]
    others: tuple[Other, ...]


def works_of(groups: Groups, symbols: Symbols) -> Works:
    """Lists what takes time in the program of some groups.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> works = works_of(groups, Symbols(groups))
        >>> [work.kind for work in works.convolving][:2], works.others[0].kind
        (['transposed', 'transposed'], 'norm')
    """
    rows = {row.node: row for row in cost_of(groups.flow.program).nodes}
    convolving, others = [], []
    for node in groups.flow.program.nodes():
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
    module: Any = groups.flow.program.submodule(node)
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
        for value in tensors(symbols.flow.values.get(n)):
            moved = moved + prod(symbols.shape(value))
    module = groups.flow.program.submodule(node) if node.op == "call_module" else None
    name = type(module).__name__ if module is not None else op_name(node) or str(node.target)
    shape = getattr(node.meta["val"], "shape", ())
    macs = work(symbols, node, row)[0] if row.macs.exact else 0
    like = f"{name} {tuple(shape[2:])} {len(node.all_input_nodes)} {bool(row.macs.exact)}"
    return Other(node.name, like, _kind(name.lower()), moved, macs)


def _kind(name: str) -> str:
    return next((kind for kind in ("norm", "pad") if kind in name), "other")


def _channels(symbols: Symbols, node: fx.Node) -> Number:
    value = symbols.flow.values.get(node)
    channels = int(node.meta["val"].shape[-3])
    return symbols.shape(value)[-3] if isinstance(value, Labeled) else channels


def _varies(number: Number) -> bool:
    return isinstance(number, Size) and any(number.terms)
