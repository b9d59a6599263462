"""What `--metric`, `--extractor` and `--budget` of a command line mean."""

from collections.abc import Callable, Mapping
from typing import Any

import typer

from gfx.errors import InputError

__all__ = ["measure", "parse_budget_option"]

Function = Callable[..., Any]
_FEATURE = "feature"
_BUDGET = "a share of the MACs such as 0.5, or MEASURE=LIMIT such as macs=2.67G or params=0.5"


def measure(name: str, features: str | None) -> tuple["str | Function", "Function | None"]:
    """Returns a metric and what it extracts features by: None if it needs nothing.

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
    """Calls the user's own `package.module:factory` and returns what it makes."""
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
    """Reads a budget as recipes write it, or shorter.

    Raises: typer.BadParameter that shows how it is written.

    Example:
        >>> parse_budget_option("0.5"), parse_budget_option("macs=2.67G")
        ({'macs': 0.5}, {'macs': '2.67G'})
    """
    from gfx.costing import check_spec
    from gfx.errors import RecipeError
    from gfx.recipe_text import parse

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


def _own(name: str, option: str, wanted: str) -> Any:
    from gfx.archive.imports import imported

    try:
        return imported(name, option, wanted)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{option} {name} failed: {type(error).__name__}: {error}") from error
