"""Opens the MODEL of a command line: a file, or `zoo:NAME?option=value&…`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from gfx.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from gfx.pipeline.recipe import InputSpec

__all__ = ["Opened", "open_named", "parse_input"]

_ZOO = "zoo:"
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
    evaluate: bool = False,
    seed: int | None = None,
) -> Opened:
    """Opens the MODEL of a command line.

    A model whose file says no train/eval mode (a state dict, the zoo) is put in eval mode.

    Raises: GfxError if there is no such model, or it cannot be opened.
    """
    if name.startswith(_ZOO):
        if factory is not None:
            raise InputError(f"{name} needs no --model {factory}; drop it")
        opened = _from_zoo(name.removeprefix(_ZOO), seed)
    else:
        opened = _from_file(name, factory, trust)
    if evaluate or factory is not None or name.startswith(_ZOO):
        opened.model.eval()
    return Opened(opened.model, _tensors(inputs, opened.model)) if inputs else opened


def _from_zoo(name: str, seed: int | None) -> Opened:
    from gfx import zoo
    from gfx.ir.random_state import keep_random_state

    name, _, query = name.partition("?")
    options = {key: _value(value) for key, value in _pairs(query)}
    with keep_random_state(seed=seed or 0):
        model = zoo.build(name, **options)
    return Opened(model, zoo.example_inputs(name, **options))


def _from_file(name: str, factory: str | None, trust: bool) -> Opened:
    from torch import fx

    from gfx.io.archive import open_model
    from gfx.pipeline.recipe import InputSpec

    model = open_model(name, model=factory, trust=trust)
    known = model.meta.get("gfx_inputs") if isinstance(model, fx.GraphModule) else None
    if not known:
        return Opened(model, None)
    specs = [InputSpec(tuple(item["shape"]), item["dtype"]) for item in known]
    return Opened(model, _tensors(specs, model))


def _tensors(specs: "list[InputSpec]", model: "nn.Module") -> "tuple[torch.Tensor, ...]":
    """Makes inputs in the dtype and on the device of the model."""
    import torch

    floating = (p for p in model.parameters() if p.is_floating_point())
    like = next(floating, torch.empty(0))
    return tuple(spec.tensor(like.dtype, like.device) for spec in specs)


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = [item.partition("=") for item in query.split("&") if item]
    for key, equals, _ in pairs:
        if not equals:
            raise InputError(f"zoo option {key!r} has no value; write {key}=VALUE")
    return [(key, value) for key, _, value in pairs]


def _value(text: str) -> Any:
    """Reads an option: 64, 0.5, true, a word, or 16,16,32."""
    import yaml

    if "," in text:
        return tuple(_value(part) for part in text.split(","))
    return yaml.safe_load(text)
