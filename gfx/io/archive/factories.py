"""Builds the module of a state dict: by the user's own factory, or by the zoo.

package.module:factory      imported; the current folder is searched first
folder/file.py:factory      the same, from a file
zoo:NAME                    a reference generator
…?width=16&norm=batch       each with options, as keyword arguments
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from gfx.errors import ArchiveError, InputError, RecipeError, did_you_mean
from gfx.io.archive.imports import imported
from gfx.io.yaml_text import parse
from gfx.ir.deepcopy import deepcopy
from gfx.ir.random_state import keep_random_state

__all__ = ["ZOO", "Factory", "build_module_from", "from_zoo", "split_options"]

Factory = str | Callable[[], nn.Module] | nn.Module

ZOO = "zoo:"


def build_module_from(factory: Factory) -> nn.Module:
    """Builds a module; an instance is copied, and stays what it was.

    Raises: ArchiveError if it cannot be imported or called, or gives no module; InputError of the
        zoo.
    """
    if isinstance(factory, nn.Module):
        return deepcopy(factory)
    if isinstance(factory, str) and factory.startswith(ZOO):
        return from_zoo(factory)
    said = f"--model {factory}" if isinstance(factory, str) else f"model={_name(factory)}"
    try:
        module = _called(factory) if isinstance(factory, str) else factory()
    except InputError as error:
        raise ArchiveError(str(error)) from error
    except Exception as error:
        raise ArchiveError(f"{said} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ArchiveError(f"{said} gave an object of type {type(module).__name__}, not a module")
    return module


def from_zoo(name: str, seed: int = 0) -> nn.Module:
    """Builds `zoo:NAME?option=value`, with weights drawn from a seed.

    Raises: InputError for an unknown name or option, or a value out of range.

    Example:
        >>> sum(p.numel() for p in from_zoo("zoo:dcgan?ngf=8").parameters())
        146032
    """
    from gfx import zoo

    bare, options = split_options(name.removeprefix(ZOO))
    with keep_random_state(seed=seed):
        return zoo.build(bare, **options)


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """Splits a name from its options: numbers, true or false, words, or several by commas.

    Raises: InputError if an option has no value, or one that cannot be read.

    Example:
        >>> split_options("net:Net?nf=16&norm=batch&widths=8,16")
        ('net:Net', {'nf': 16, 'norm': 'batch', 'widths': (8, 16)})
    """
    name, _, query = text.partition("?")
    options = {}
    for item in query.split("&"):
        key, equals, value = item.partition("=")
        if item and not equals:
            kind = "zoo option" if ":" not in name else "option"
            raise InputError(f"{kind} {key!r} has no value; write {key}=VALUE")
        if item:
            options[key] = _value(value, key)
    return name, options


def _value(text: str, key: str) -> Any:
    if "," in text:
        return tuple(_value(part, key) for part in text.split(",") if part)
    try:
        return parse(text, f"option {key}")
    except RecipeError as error:
        raise InputError(str(error)) from error


def _called(text: str) -> Any:
    name, options = split_options(text)
    factory = imported(name, "--model", "factory")
    if not callable(factory):
        raise InputError(
            f"--model {name} is a {type(factory).__name__}, which cannot be called; name a class "
            "or a function that builds the module"
        )
    _check_options(factory, name, options)
    return factory(**options)


def _check_options(factory: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
    """Refuses options that a factory does not take, and asks for those that it needs."""
    try:
        known = inspect.signature(factory).parameters
    except (ValueError, TypeError):  # some builtins have none
        return
    kinds = [parameter.kind for parameter in known.values()]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for option in options:
            if option not in known:
                hint = did_you_mean(option, known, _takes(known))
                raise InputError(f"--model {name} takes no option {option!r}{hint}")
    needed = [
        key
        for key, parameter in known.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key not in options
    ]
    if needed:
        asked = "&".join(f"{key}=VALUE" for key in needed)
        raise InputError(f"--model {name} needs {', '.join(needed)}; write {name}?{asked}")


def _takes(known: Any) -> str:
    return f"it takes {', '.join(known)}" if known else "it takes none"


def _name(factory: Any) -> str:
    return getattr(factory, "__qualname__", type(factory).__name__)
