"""Opens the MODEL of a command line: a file, or `zoo:NAME?option=value&…`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from gfx.pipeline.recipe import InputSpec

__all__ = ["Opened", "open_named", "parse_input"]

_INPUT = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?")


@dataclass(frozen=True)
class Opened:
    """A model, and the inputs stored with it (None: unknown)."""

    model: "nn.Module"
    inputs: "tuple[torch.Tensor, ...] | None"


def parse_input(text: str) -> "InputSpec":
    """Reads an input such as 1x3x256x256 or 1:int64.

    Raises: typer.BadParameter if it is no shape.

    Example:
        >>> parse_input("1x3x64x64").shape, parse_input("1:int64").dtype
        ((1, 3, 64, 64), 'int64')
    """
    from gfx.errors import RecipeError
    from gfx.pipeline.recipe import InputSpec

    match = _INPUT.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no shape such as 1x3x256x256 or 1:int64")
    try:
        return InputSpec(tuple(int(size) for size in match[1].split("x")), match[2])
    except RecipeError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from error


def open_named(
    name: str,
    *,
    inputs: "list[InputSpec] | None",
    factory: str | None,
    trust: bool,
    key: str | None = None,
    evaluate: bool = False,
    seed: int | None = None,
) -> Opened:
    """Opens the MODEL of a command line.

    A model whose file says no train/eval mode (a state dict, the zoo) is put in eval mode.

    Raises: GfxError if there is no such model, or it cannot be opened.
    """
    from gfx.io.archive import open_model
    from gfx.io.archive.factories import ZOO, from_zoo

    if name.startswith(ZOO) and factory is None and key is None:
        opened = Opened(from_zoo(name, seed or 0), _zoo_inputs(name))
    else:
        model = open_model(name, model=factory, key=key, trust=trust)
        built = _zoo_inputs(factory) if factory is not None and factory.startswith(ZOO) else None
        opened = Opened(model, built or _known_inputs(model))
    if evaluate or factory is not None or name.startswith(ZOO):
        opened.model.eval()
    return Opened(opened.model, _tensors(inputs, opened.model)) if inputs else opened


def _zoo_inputs(name: str) -> "tuple[torch.Tensor, ...]":
    from gfx import zoo
    from gfx.io.archive.factories import ZOO, split_options

    bare, options = split_options(name.removeprefix(ZOO))
    return zoo.example_inputs(bare, **options)


def _known_inputs(model: "nn.Module") -> "tuple[torch.Tensor, ...] | None":
    """Makes the inputs that a graph of gfx's own says it was made for."""
    from torch import fx

    from gfx.pipeline.recipe import InputSpec

    known = model.meta.get("gfx_inputs") if isinstance(model, fx.GraphModule) else None
    if not known:
        return None
    specs = [InputSpec(tuple(item["shape"]), item["dtype"]) for item in known]
    return _tensors(specs, model)


def _tensors(specs: "list[InputSpec]", model: "nn.Module") -> "tuple[torch.Tensor, ...]":
    """Makes inputs in the dtype and on the device of the model."""
    import torch

    floating = (p for p in model.parameters() if p.is_floating_point())
    like = next(floating, torch.empty(0))
    return tuple(spec.tensor(like.dtype, like.device) for spec in specs)
