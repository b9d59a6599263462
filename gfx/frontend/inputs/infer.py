"""Infers example inputs for a model that comes without any.

Each input's shape follows from the first layer that reads it, from its name, and from what the
model says about itself. Candidates run on shapes alone; the first that runs is taken.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from gfx.errors import InputError
from gfx.frontend.compare import run, run_fake
from gfx.frontend.inputs.bind import Arguments, bind, required_names
from gfx.frontend.inputs.from_graph import Need, needs
from gfx.frontend.inputs.from_layers import Reader, first_reader
from gfx.frontend.inputs.from_names import Role, sizes_from_attributes, widths_from_attributes
from gfx.frontend.refusal import first_line
from gfx.frontend.symbolic_trace import partial_graph

__all__ = ["Inferred", "infer", "remembered"]

_SIZE = 256  # pixels: what image generators are published at
_OTHER_SIZES = (128, 64, 512, 32, 224, 16)
_SMALL = 4  # how many times smaller images may be where only the arithmetic is compared
_LENGTH = 16  # of a sequence
_MOST_TRIES = 64
_INDEX = torch.int64


@dataclass(frozen=True)
class Inferred:
    """Example inputs, and what was assumed to get them."""

    arguments: Arguments
    assumed: tuple[str, ...] = ()  # sentences
    small: Arguments | None = None  # the same with smaller images, if the model runs on them


@dataclass(frozen=True)
class _Candidate:
    """A shape and type that an input may have."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    why: str

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.name}: {'x'.join(map(str, self.shape))} {kind}"


def infer(model: nn.Module, *, smaller: bool = False) -> Inferred:
    """Infers example inputs from a model; they are on its device and of its dtype.

    `smaller` also looks for smaller images, for a comparison that takes less time.

    Raises: InputError if nothing that was tried runs; it says what was.

    Example:
        >>> infer(nn.Sequential(nn.Conv2d(3, 8, 3))).assumed
        ("assumed input: 1x3x256x256 float32 (Conv2d '0' takes 3 channels)",)
    """
    names = _names(model)
    blank = bind(model, {name: torch.empty(0) for name in names})
    wanted = needs(partial_graph(model, blank), model)
    tried: list[str] = []
    for size, candidates in _combinations(wanted, model):
        arguments = _made(candidates, model)
        problem = _problem(model, arguments)
        if problem is None:
            assumed = tuple(f"assumed {c} ({c.why})" for c in candidates)
            small = _smaller(candidates, size, model) if smaller else None
            return Inferred(arguments, assumed, small)
        tried.append(f"{', '.join(map(str, candidates))} ({problem})")
    raise InputError(
        f"cannot infer the inputs of {type(model).__name__}: "
        f"{'; '.join(['tried ' + text for text in tried[:3]]) or 'no layer says what it takes'}"
        f"{f'; and {len(tried) - 3} more' if len(tried) > 3 else ''}; pass example_inputs=, "
        "in the shell --input 1x3x256x256"
    )


def remembered(model: nn.Module) -> Inferred | None:
    """Makes the inputs that a graph of gfx's own, also one from a file, says it was made for.

    They are in `meta["gfx_inputs"]`, a shape and a dtype each; None if there is no such note.
    """
    known = model.meta.get("gfx_inputs") if isinstance(model, fx.GraphModule) else None
    names = required_names(model)
    if not known or len(known) != len(names):
        return None
    own = _dtype(model)  # the model may have been cast since
    dtypes = [getattr(torch, item["dtype"]) for item in known]
    candidates = tuple(
        _Candidate(name, tuple(item["shape"]), own if kind.is_floating_point else kind, "")
        for name, item, kind in zip(names, known, dtypes, strict=True)
    )
    return Inferred(_made(candidates, model))


def _names(model: nn.Module) -> list[str]:
    names = required_names(model)
    if not names:
        raise InputError(
            f"{type(model).__name__}.forward has no argument without a default, so there is "
            "nothing to infer; pass example_inputs="
        )
    return names


def _combinations(
    wanted: list[Need], model: nn.Module
) -> Iterator[tuple[int, tuple[_Candidate, ...]]]:
    """Yields candidates for all inputs together, the likely ones first, with the image size."""
    seen: set[tuple[_Candidate, ...]] = set()
    for size in dict.fromkeys([_SIZE, *sizes_from_attributes(model), *_OTHER_SIZES]):
        lists = [list(_candidates(need, size, model)) for need in wanted]
        ranked = itertools.product(*(enumerate(items) for items in lists))
        for ranking in sorted(ranked, key=lambda pairs: sum(rank for rank, _ in pairs)):
            combination = tuple(candidate for _, candidate in ranking)
            if combination not in seen and len(seen) < _MOST_TRIES:
                seen.add(combination)
                yield size, combination


def _candidates(need: Need, size: int, model: nn.Module) -> Iterator[_Candidate]:
    """Yields what one input may be."""
    dtype = _dtype(model)
    reader = need.reader
    if need.role is Role.TIME:
        yield _Candidate(need.name, (1,), _INDEX, "by its name, a time step")
        yield _Candidate(need.name, (1,), dtype, "by its name, a time step")
        if reader is None:
            return
    if reader is not None and reader.kind == "index":
        yield _Candidate(need.name, (1,), _INDEX, reader.why)
        return
    for width in widths_from_attributes(model, need.role) if reader is None else ():
        yield _Candidate(need.name, (1, width), dtype, f"the model says {width}")
    widths = need.widths
    reader = reader or first_reader(model)
    if reader is None:
        return
    for width in widths or (reader.width,):
        for shape in _shapes(reader, need.vector, size):
            yield _Candidate(need.name, (1, *_with_width(shape, width)), dtype, reader.why)
    if need.reader is None and need.role is Role.LABEL:
        yield _Candidate(need.name, (1,), _INDEX, "by its name, a class number")


_WIDTH = 0  # stands for the width in a shape


def _shapes(reader: Reader, vector: bool, size: int) -> list[tuple[int, ...]]:
    """Lists the shapes a reader takes, without the batch, the likely one first."""
    small = (_WIDTH, *(1,) * reader.dims)
    if reader.kind == "sequence":
        return [(_LENGTH, _WIDTH)]
    if reader.kind == "vector":
        return [(_WIDTH,), (_LENGTH, _WIDTH)]
    image = (_WIDTH, *(size if reader.dims < 3 else max(size // 4, 1),) * reader.dims)
    shapes = [small, (_WIDTH, *(4,) * reader.dims)] if reader.kind == "map" else [image]
    return [(_WIDTH,), *shapes] if vector else shapes


def _with_width(shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    return tuple(width if size == _WIDTH else size for size in shape)


def _made(candidates: tuple[_Candidate, ...], model: nn.Module) -> Arguments:
    """Makes tensors: seeded normal numbers, and zeros where they are class numbers."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)

    def tensor(candidate: _Candidate) -> torch.Tensor:
        if device.type == "meta" or not candidate.dtype.is_floating_point:
            return torch.zeros(candidate.shape, dtype=candidate.dtype, device=device)
        values = torch.randn(candidate.shape, generator=generator)
        return values.to(device, candidate.dtype)

    return bind(model, {c.name: tensor(c) for c in candidates})


def _smaller(candidates: tuple[_Candidate, ...], size: int, model: nn.Module) -> Arguments | None:
    """Returns the inputs with smaller images, if there are images and the model runs on them."""
    sizes = {size: size // _SMALL}
    small = tuple(
        _Candidate(c.name, (*c.shape[:2], *(sizes.get(s, s) for s in c.shape[2:])), c.dtype, c.why)
        for c in candidates
    )
    if small == candidates or size // _SMALL < 1:
        return None
    arguments = _made(small, model)
    return None if _problem(model, arguments) else arguments


def _problem(model: nn.Module, arguments: Arguments) -> str | None:
    """Runs a model on shapes alone and says why it does not run, or None if it does."""

    def call(given: Arguments) -> object:
        return given.call(model, given.values())

    try:
        run_fake(model, call, arguments)
    except Exception as error:
        if not _needs_values(error):
            return first_line(error)
    else:
        return None
    try:
        run(model, call, arguments, training=False)
    except Exception as error:
        return first_line(error)
    return None


def _needs_values(error: Exception) -> bool:
    """Whether a model failed only because it needs values, not shapes alone."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedFakeTensorException,
    )

    unknown = (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedFakeTensorException,
    )
    return isinstance(error, unknown) or "fake" in str(error).lower()


def _dtype(model: nn.Module) -> torch.dtype:
    kinds = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(kinds, torch.get_default_dtype())
