"""The options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gfx.cli.models import parse_input

__all__ = [
    "Attention",
    "Debug",
    "Evaluate",
    "Factory",
    "GroupNorm",
    "Images",
    "Init",
    "Input",
    "Json",
    "Kind",
    "Model",
    "Norm",
    "Seed",
    "Trust",
]

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A .gfx, .pt, .pth, .pt2 or .safetensors file, or zoo:NAME."
    ),
]
Input = Annotated[
    list[Any] | None,
    typer.Option(
        "--input",
        parser=parse_input,
        metavar="SHAPE",
        help="An input, such as 1x3x256x256 or 1:int64; once for each.",
    ),
]
Factory = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="PKG.MOD:FACTORY", help="What builds the module of a state dict."
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run code from the file: only if you trust its author.")
]
Evaluate = Annotated[bool, typer.Option("--eval", help="Put the model in eval mode first.")]
Images = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Images to look at; cut to the input's shape, scaled down and to [-1, 1].",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


class Attention(StrEnum):
    """What a channel of multi-head attention is."""

    width = "width"
    heads = "heads"


class GroupNorm(StrEnum):
    """What a channel of a GroupNorm is."""

    auto = "auto"
    whole = "whole"
    regroup = "regroup"


class Kind(StrEnum):
    """How a convolution is decomposed."""

    depthwise_separable = "depthwise_separable"
    spatial = "spatial"
    tucker = "tucker"
    low_rank = "low_rank"


class Norm(StrEnum):
    """What stands between the parts of a decomposed convolution."""

    none = "none"
    instance = "instance"
    batch = "batch"


class Init(StrEnum):
    """Where the weights of a decomposed convolution come from."""

    svd = "svd"
    data = "data"
    random = "random"
