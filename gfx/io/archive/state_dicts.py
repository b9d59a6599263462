"""Chooses the network in a checkpoint, and loads a state dict into the user's own module."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gfx.errors import ArchiveError, did_you_mean
from gfx.io.archive.checkpoint_contents import TOP, Contents
from gfx.io.archive.checkpoints import Candidate, candidates_of, closest, distinct, says_average

__all__ = ["fill", "whole_in"]

_SHOWN = 3  # names listed in an error
_MOST_LISTED = 8  # networks listed in an error
_AVERAGES = ("ema", "average")  # as a key: the one that is an average


def whole_in(content: Any, file: Path, key: str | None) -> nn.Module:
    """Finds the one module in what a file held, which may be nested.

    Raises: ArchiveError if there is none, or more than one and no key says which.
    """
    contents = Contents(content, file)
    if isinstance(content, nn.Module) and key is not None:
        raise ArchiveError(f"{file} holds one model, so --key {key} has no use; drop it")
    modules = [
        Candidate(name, {}, says_average(name), module) for name, module in contents.modules.items()
    ]
    states = [Candidate(name, {}, says_average(name)) for name in contents.states]
    if not modules and not states:
        raise _no_model(content, file)
    if not modules and key is None:
        raise _wants_factory(contents, file)
    chosen = _chosen([*modules, *states], file, key, contents)
    if chosen.module is None:
        raise ArchiveError(
            f"{file}: {chosen.name} is a state dict ({contents.states[chosen.name]} tensors); say "
            f"how to build its module with --model package.module:factory {_in_python(file, key)}"
        )
    return chosen.module


def fill(module: nn.Module, content: Any, file: Path, key: str | None = None) -> nn.Module:
    """Loads the state dict in a file that fits a module, at whatever depth and prefix it is.

    Raises: ArchiveError if none fits, naming what is missing, unexpected or of another shape; or
        several do and no key says which.
    """
    contents = Contents(content, file)
    expected = module.state_dict()
    found = candidates_of(contents, expected)
    if not found:
        raise _misfit(module, contents, content, file, key)
    chosen = _chosen(found, file, key, contents)
    try:
        module.load_state_dict(dict(chosen.state))
    except Exception as error:  # of values that torch cannot copy: sparse, quantized, without data
        kind, why = type(module).__name__, str(error).strip().splitlines()[-1].strip()
        raise ArchiveError(
            f"{file} does not fit {kind}: {why}; save plain dense tensors (tensor.to_dense(), "
            "tensor.dequantize())"
        ) from error
    return module


def _chosen(found: list[Candidate], file: Path, key: str | None, contents: Contents) -> Candidate:
    """Returns the candidate that the key names, or the only one."""
    names = [candidate.name for candidate in found]
    if key is None:
        found = distinct(found)
        names = [candidate.name for candidate in found]
        if len(found) == 1:
            return found[0]
        averages = [candidate.name for candidate in found if candidate.average]
        ema = ", or --key ema for the average" if len(averages) == 1 else ""
        raise ArchiveError(
            f"{file} holds {len(found)} networks that fit: {_some(names, _MOST_LISTED)}; say which "
            f"with --key {(averages or names)[0]}{ema} "
            f"(in Python gfx.open_model(..., key={(averages or names)[0]!r}))"
        )
    picked = [candidate for candidate in found if candidate.name == key]
    if not picked and key.lower() in _AVERAGES:
        picked = [candidate for candidate in found if candidate.average]
    picked = picked or [c for c in found if f".{key}." in f".{c.name}."]
    if len(distinct(picked)) == 1:
        return picked[0]
    if picked:
        several = _some([candidate.name for candidate in picked], _MOST_LISTED)
        raise ArchiveError(f"{file}: --key {key} may be {several}; give one of these in full")
    there = f"; {key} is there, but does not fit" if contents.under(key) else ""
    known = f"those that fit are {_some(names, _MOST_LISTED)}"
    raise ArchiveError(
        f"{file} holds no network {key!r} (--key){there}{did_you_mean(key, names, known)}"
    )


def _misfit(
    module: nn.Module, contents: Contents, content: Any, file: Path, key: str | None
) -> ArchiveError:
    """Explains why nothing in a file fits a module, by what comes nearest."""
    if isinstance(content, nn.Module):
        return ArchiveError(f"{file} holds a whole model, so --model has no use; drop it")
    if not contents.states and contents.modules:
        return ArchiveError(
            f"{file} holds whole models ({_some(contents.modules, _MOST_LISTED)}), so --model has "
            "no use; drop it, and say which with --key"
        )
    if not any(isinstance(leaf.value, torch.Tensor) for leaf in contents.leaves.values()):
        return _no_model(content, file)
    expected, kind = module.state_dict(), type(module).__name__
    under = key if key is not None and contents.under(key) else None
    prefix, held = closest(contents, expected, under)
    where = f"{file} ({prefix})" if prefix else str(file)
    problems = _mismatch(expected, held)
    others = [name for name in contents.states if name not in (prefix, TOP)]
    hint = f"; it also holds {_some(others, _MOST_LISTED)}" if others else ""
    return ArchiveError(f"{where} does not fit {kind}: {'; '.join(problems)}{hint}")


def _no_model(content: Any, file: Path) -> ArchiveError:
    if not isinstance(content, Mapping):
        return ArchiveError(
            f"{file} holds an object of type {type(content).__name__}, not a module or a state dict"
        )
    return ArchiveError(
        f"{file} holds no models (its keys: {_some(map(str, content))}); "
        "save the module or its state dict"
    )


def _wants_factory(contents: Contents, file: Path) -> ArchiveError:
    """Says what a file of state dicts holds, and how its module is built."""
    names, (first, count) = list(contents.states), next(iter(contents.states.items()))
    if len(names) == 1:
        tensor = next(path for path in contents.leaves if first == TOP or path.startswith(first))
        what = f"is a state dict ({count} tensors, the first is {tensor})"
    else:
        sizes = [f"{name} ({size} tensors)" for name, size in contents.states.items()]
        what = f"holds {len(names)} state dicts: {_some(sizes, _MOST_LISTED)}"
    return ArchiveError(
        f"{file} {what}; say how to build its module with --model package.module:factory or "
        f"file.py:factory {_in_python(file, None)}"
    )


def _in_python(file: Path, key: str | None) -> str:
    more = "" if key is None else f", key={key!r}"
    return f'(in Python gfx.open_model({str(file)!r}, model="package.module:factory"{more}))'


def _mismatch(expected: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    problems = []
    if missing := [key for key in expected if key not in state]:
        problems.append(f"{len(missing)} missing in the file ({_some(missing)})")
    if surplus := [key for key in state if key not in expected]:
        problems.append(f"{len(surplus)} unknown to the module ({_some(surplus)})")
    shapes = [
        f"{key} is {_shape(state[key])}, needs {_shape(expected[key])}"
        for key in expected
        if isinstance(state.get(key), torch.Tensor) and _shape(state[key]) != _shape(expected[key])
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({_some(shapes)})")
    return problems or ["its values are of another kind"]


def _shape(tensor: torch.Tensor) -> Any:
    return "nested" if tensor.is_nested else list(tensor.shape)


def _some(names: Iterable[str], most: int = _SHOWN) -> str:
    shown = list(names)
    more = f", … {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
