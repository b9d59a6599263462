"""Defines options that several commands share, and parses `--metric`, `--extractor`, `--budget`."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gfx.cli.completion import complete_model
from gfx.cli.model_argument import parse_input
from gfx.errors import InputError
from gfx.io.plain_data import shown

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
    "Key",
    "Kind",
    "Model",
    "NormOption",
    "PairHalf",
    "Range",
    "Seed",
    "Time",
    "Trust",
    "check_output",
    "image_data",
    "measure",
    "parse_budget_option",
    "read_budgets",
]


class HalfOption(StrEnum):
    """Halves of a picture that may be a pair."""

    left = "left"
    right = "right"
    middle = "middle"


def parse_range_option(text: str) -> tuple[float, float]:
    """Reads --range, such as 0..1.

    Raises: typer.BadParameter if it is no range.

    Example:
        >>> parse_range_option("-1..1")
        (-1.0, 1.0)
    """
    from gfx.io.data.value_range import parse_range

    try:
        return parse_range(text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def check_seed(seed: int | None) -> int | None:
    """Checks that torch takes a seed.

    Raises: typer.BadParameter if it is too large.
    """
    if seed is not None and seed >= 2**63:
        raise typer.BadParameter(f"{shown(seed)} is no seed from 0 to {2**63 - 1}")
    return seed


def check_output(path: Path | None) -> Path | None:
    """Checks that -o names a kind of file that holds a model.

    Raises: typer.BadParameter naming the kinds.
    """
    if path is not None and path.suffix not in (".gfx", ".pt", ".pth"):
        raise typer.BadParameter(f"{path} must end in .gfx (an archive) or .pt (a pickle)")
    return path


def check_images(folder: Path | None) -> Path | None:
    """Checks that --data is a folder.

    Raises: typer.BadParameter saying what it is.
    """
    from gfx.io.data.picture_paths import check_folder

    try:
        if folder is not None:
            check_folder(folder)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    return folder


def image_data(folder: Path | None, half: HalfOption | None) -> Any:
    """Makes the data of --data and --half.

    Raises: typer.BadParameter if there is a half of nothing.
    """
    if folder is None or half is None:
        if half is not None:
            raise typer.BadParameter(f"--half {half.value} is for --data DIR; give that too")
        return folder
    from gfx.io.data import ImageFolder

    return ImageFolder(folder, half=half.value)


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .gfx, .pt, .pth, .pt2 or .safetensors file, or zoo:NAME.",
        autocompletion=complete_model,
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
        "--model",
        metavar="FACTORY",
        help="What builds the module of a state dict: package.module:Net, file.py:Net, zoo:NAME; "
        "with options as in file.py:Net?nf=16.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="NAME", help="Which network of a checkpoint: g_ema; ema: the average."
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
        callback=check_images,
        help="Images to look at; cut to the input's shape, and scaled down.",
    ),
]
Range = Annotated[
    Any,
    typer.Option(
        "--range",
        parser=parse_range_option,
        metavar="LOW..HIGH",
        help="What black and white of --data become, as 0..1; else what the model tells, or -1..1.",
    ),
]
PairHalf = Annotated[
    HalfOption | None,
    typer.Option("--half", help="Of pictures A|B in --data: which half the model takes."),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", min=0, callback=check_seed, help="Seed of everything random."
    ),
]
Time = Annotated[
    float | None,
    typer.Option(
        "--time", metavar="SECONDS", help="Ends searches after this time, with the best so far."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


class Attention(StrEnum):
    """Units of channels in multi-head attention."""

    width = "width"
    heads = "heads"


class GroupNorm(StrEnum):
    """Units of channels in a GroupNorm."""

    auto = "auto"
    whole = "whole"
    regroup = "regroup"


class Kind(StrEnum):
    """Forms of a decomposed convolution."""

    depthwise_separable = "depthwise_separable"
    spatial = "spatial"
    tucker = "tucker"
    low_rank = "low_rank"


class NormOption(StrEnum):
    """Norms between the parts of a decomposed convolution."""

    none = "none"
    instance = "instance"
    batch = "batch"


class Init(StrEnum):
    """Sources of the weights of a decomposed convolution."""

    svd = "svd"
    data = "data"
    random = "random"


Function = Callable[..., Any]
_FEATURE = "feature"
_BUDGET = "a share of the MACs such as 0.5, or MEASURE=LIMIT such as macs=2.67G or params=0.5"


def measure(name: str, features: str | None) -> tuple["str | Function", "Function | None"]:
    """Returns a metric and its feature extractor: None if it needs none.

    A metric is a name, or the user's own function if it is `package.module:function`.

    Raises: InputError if either cannot be imported, or does not go with the other.

    Example:
        >>> measure("psnr", None)
        ('psnr', None)
    """
    if (name == _FEATURE) != (features is not None):
        raise InputError(
            f"--metric {_FEATURE} needs --extractor PKG.MOD:FACTORY, which makes what turns images "
            "into features"
            if features is None
            else f"--extractor {features} is for --metric {_FEATURE}, and the metric is {name}"
        )
    if ":" not in name:
        return name, None if features is None else _extractor(features)
    found = _own(name, "--metric", "function")
    if not callable(found):
        raise InputError(f"--metric {name} is a {type(found).__name__}, no function")
    return found, None


def _extractor(name: str) -> "Function":
    """Calls the user's own `package.module:factory` and returns its result."""
    factory = _own(name, "--extractor", "factory")
    try:
        made = factory()
    except Exception as error:
        raise InputError(f"--extractor {name} failed: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise InputError(
            f"--extractor {name} gave a {type(made).__name__}, which cannot be called; it must "
            "give a function or module that turns images into features"
        )
    return made  # type: ignore[no-any-return]


def parse_budget_option(text: str) -> Mapping[str, Any]:
    """Reads a budget as recipes write it, or in short form.

    Raises: typer.BadParameter that shows the expected form.

    Example:
        >>> parse_budget_option("0.5"), parse_budget_option("macs=2.67G")
        ({'macs': 0.5}, {'macs': '2.67G'})
    """
    from gfx.costs import check_spec
    from gfx.errors import RecipeError
    from gfx.io.yaml_text import parse

    try:
        if text.lstrip().startswith("{"):
            spec = parse(text, "--budget")
        else:
            name, equals, limit = text.rpartition("=")
            spec = {name.strip() if equals else "macs": parse(limit, "--budget")}
        check_spec(spec)
    except RecipeError as error:
        raise typer.BadParameter(f"{text!r}: {error}; {_BUDGET}") from error
    return spec  # type: ignore[no-any-return]


def read_budgets(given: Sequence[str]) -> dict[str, Any] | None:
    """Reads budgets, one measure each; None if none is given.

    Raises: typer.BadParameter that shows the expected form, or names one given twice.

    Example:
        >>> read_budgets(["macs=0.5", "params=2M"])
        {'macs': 0.5, 'params': '2M'}
    """
    found: dict[str, Any] = {}
    for text in given:
        for name, limit in parse_budget_option(text).items():
            if name in found:
                raise typer.BadParameter(f"--budget {name} is given twice; give it once")
            found[name] = limit
    return found or None


def _own(name: str, option: str, wanted: str) -> Any:
    from gfx.io.archive.imports import imported

    try:
        return imported(name, option, wanted)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{option} {name} failed: {type(error).__name__}: {error}") from error
