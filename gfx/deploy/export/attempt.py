"""Exports a program once with some sizes dynamic, and lists the sizes to compare at."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from gfx.deploy.export.blame import refusal
from gfx.deploy.export.capture import capture, hushed
from gfx.deploy.export.names import name_dims
from gfx.deploy.export.onnx import translated
from gfx.deploy.export.size_ranges import Extent, Factors, dim_names, resized, runs_at
from gfx.errors import ExportError
from gfx.ir.program import Program

__all__ = ["ExportAttempt", "Format", "attempt", "trials"]

Format = Literal["onnx", "pt2"]


@dataclass(frozen=True)
class ExportAttempt:
    """Holds a file's content, and the sizes that torch kept dynamic."""

    data: bytes
    opset: int | None
    open: frozenset[str]  # names of the extents that are dynamic at every place
    inputs: tuple[str, ...]  # one text each: `image: float32 batch x 3 x height x width`
    outputs: tuple[str, ...]


def attempt(
    program: Program, free: Iterable[Extent], form: Format, opset: int | None = None
) -> ExportAttempt:
    """Exports a program with some extents open.

    Raises: ExportError that names the node at which it fails.
    """
    free = tuple(free)
    doubled: Factors = {e.name: Fraction(2) for e in free if 1 in e.sizes}  # 1 is never dynamic
    inputs = resized(program.example_inputs, doubled, free)
    try:
        captured = capture(program.module, inputs, _open_dims(inputs, free) if free else None)
    except Exception as error:  # torch raises many kinds
        raise refusal(error, program.module, "torch.export") from error
    symbols = _symbols(captured, program)
    closed = {name for extent in free for name in _closed(extent, captured)}
    opened = frozenset(extent.name for extent in free) - closed
    texts = _signature(captured, symbols)
    if form == "pt2":
        return ExportAttempt(_saved(captured), None, opened, *texts)
    try:
        model = translated(captured, program.module, opset)
    except ExportError:
        raise
    except Exception as error:
        raise refusal(error, program.module, "torch's exporter to ONNX") from error
    name_dims(model, symbols)
    wrote = next(item.version for item in model.opset_import if not item.domain)
    return ExportAttempt(model.SerializeToString(), wrote, opened, *texts)


def trials(program: Program, free: Mapping[Extent, tuple[Fraction, ...]]) -> Iterator[Factors]:
    """Iterates over other sizes to compare at: all at once, and each increased by one.

    At once, no two spatial extents grow alike where the program allows it.
    """
    if not free:
        return
    alike = {extent.name: factors[0] for extent, factors in free.items()}
    unlike = {e.name: factors[-1 if i % 2 else 0] for i, (e, factors) in enumerate(free.items())}
    together = [factors for factors in (unlike, alike) if _runs(program, factors, free)]
    yield from together[:1] or ({name: factor} for name, factor in alike.items())
    odd = {e.name: e.one_more for e in free if e.name != "batch" and e.one_more is not None}
    if odd and _runs(program, odd, free):
        yield odd


def _runs(program: Program, factors: Factors, free: Iterable[Extent]) -> bool:
    return runs_at(program, resized(program.example_inputs, factors, free)) is None


def _open_dims(inputs: tuple[Any, ...], free: Iterable[Extent]) -> Any:
    """Writes for torch.export which dimensions are dynamic."""
    leaves, spec = pytree.tree_flatten(inputs)
    shapes: list[dict[int, Any] | None] = [
        {} if isinstance(leaf, torch.Tensor) else None for leaf in leaves
    ]
    for extent in free:
        for number, dim in extent.places:
            shape = shapes[number]
            assert shape is not None  # an extent is of tensors
            shape[dim] = torch.export.Dim.AUTO
    return pytree.tree_unflatten(shapes, spec)


def _user_inputs(captured: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    """Lists the nodes of all leaves of the inputs, in order; of a fixed value too."""
    specs = captured.graph_signature.input_specs
    names = {spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT}
    return [n for n in captured.graph.nodes if n.op == "placeholder" and n.name in names]


def _closed(extent: Extent, captured: torch.export.ExportedProgram) -> Iterator[str]:
    """Yields the extent's name where torch has fixed one of its sizes."""
    nodes = _user_inputs(captured)
    for number, dim in extent.places:
        if isinstance(nodes[number].meta["val"].shape[dim], int):
            yield extent.name


def _symbols(captured: torch.export.ExportedProgram, program: Program) -> dict[str, str]:
    """Names torch's symbols by the dimensions of the inputs: `s40` is the batch.

    One name for one size; where a dimension of two inputs has two sizes, the second is named after
    its input.
    """
    leaves = pytree.tree_leaves(program.example_inputs)
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for node, leaf in zip(_user_inputs(captured), leaves, strict=True):
        for dim, name in dim_names(leaf).items():
            symbol = str(node.meta["val"].shape[dim])
            if re.fullmatch(r"s\d+", symbol) is None or symbol in names:
                continue
            known = sizes.setdefault(name, leaf.shape[dim])
            names[symbol] = name if known == leaf.shape[dim] else f"{node.name}_{name}"
    return names


def _signature(
    captured: torch.export.ExportedProgram, symbols: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes inputs and outputs with their shapes."""

    def text(value: Any) -> str:
        if not isinstance(value, torch.Tensor):
            return repr(value)
        sizes = [
            re.sub(r"\bs\d+\b", lambda m: symbols.get(m[0], m[0]), str(s)) for s in value.shape
        ]
        sizes = [f"({size})" if " " in size else size for size in sizes]
        return f"{str(value.dtype).removeprefix('torch.')} {' x '.join(sizes)}".rstrip()

    nodes = [n for n in _user_inputs(captured) if isinstance(n.meta.get("val"), torch.Tensor)]
    inputs = tuple(f"{node.name}: {text(node.meta['val'])}" for node in nodes)
    by_name = {node.name: node for node in captured.graph.nodes}
    names = captured.graph_signature.user_outputs
    return inputs, tuple(text(by_name[str(n)].meta["val"]) for n in names if str(n) in by_name)


def _saved(captured: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    try:
        with hushed():  # it warns of weights that are channels-last
            torch.export.save(captured, buffer)
    except Exception as error:
        raise ExportError(f"torch.export.save cannot write the program: {error}") from error
    return buffer.getvalue()
