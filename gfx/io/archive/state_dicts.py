"""Finds state dicts in a checkpoint, and loads them into the user's own module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gfx.errors import ArchiveError, InputError
from gfx.io.archive.imports import imported

__all__ = ["build_from_factory", "fill", "unwrap"]

_SHOWN = 3  # names listed in an error


def unwrap(content: Any, file: Path) -> nn.Module | dict[str, torch.Tensor]:
    """Finds the one module or state dict in what a file held.

    Checkpoints such as `{"epoch": 3, "state_dict": {...}}` are looked into.

    Raises: ArchiveError if there is none, or more than one.
    """
    if isinstance(content, nn.Module) or _is_state(content):
        return _plain(content)
    if not isinstance(content, Mapping):
        raise ArchiveError(
            f"{file} holds an object of type {type(content).__name__}, not a module or a state dict"
        )
    found = {k: v for k, v in content.items() if isinstance(v, nn.Module) or _is_state(v)}
    if len(found) > 1:
        # an optimizer's state holds no tensors by name, so these are several networks
        named = [k for k in found if str(k) in ("state_dict", "model", "model_state_dict")]
        found = {named[0]: found[named[0]]} if len(named) == 1 else found
    if len(found) != 1:
        raise ArchiveError(
            f"{file} holds {len(found) or 'no'} models (its keys: {_some(map(str, content))}); "
            "save the module or its state dict alone"
        )
    return _plain(next(iter(found.values())))


def build_from_factory(name: str) -> nn.Module:
    """Imports and calls the user's own `package.module:factory`, without arguments.

    The current folder is searched first, as `python -m` does.

    Raises: ArchiveError if it cannot be imported or called, or gives no module.
    """
    try:
        module = imported(name, "--model", "factory")()
    except InputError as error:
        raise ArchiveError(str(error)) from error
    except Exception as error:
        raise ArchiveError(f"--model {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ArchiveError(
            f"--model {name} gave an object of type {type(module).__name__}, not a module"
        )
    return module


def fill(module: nn.Module, state: dict[str, torch.Tensor], file: Path) -> nn.Module:
    """Loads a state dict into a module; both must have the same keys and shapes.

    Raises: ArchiveError naming what is missing, unexpected or of another shape.
    """
    expected = module.state_dict()
    if not expected.keys() & state.keys():  # saved from DataParallel, or wrapped under one name
        prefix = next(iter(state)).partition(".")[0] + "."
        bare = {key.removeprefix(prefix): value for key, value in state.items()}
        state = bare if expected.keys() & bare.keys() else state
    problems = _mismatch(expected, state)
    if problems:
        kind = type(module).__name__
        raise ArchiveError(f"{file} does not fit {kind}: {'; '.join(problems)}")
    module.load_state_dict(state)
    return module


def _mismatch(expected: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> list[str]:
    problems = []
    if missing := [key for key in expected if key not in state]:
        problems.append(f"{len(missing)} missing in the file ({_some(missing)})")
    if surplus := [key for key in state if key not in expected]:
        problems.append(f"{len(surplus)} unknown to the module ({_some(surplus)})")
    shapes = [
        f"{key} is {list(state[key].shape)}, needs {list(expected[key].shape)}"
        for key in expected
        if isinstance(state.get(key), torch.Tensor) and state[key].shape != expected[key].shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({_some(shapes)})")
    return problems


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) for k in value)
        and all(isinstance(v, torch.Tensor) for v in value.values())
    )


def _plain(found: Any) -> nn.Module | dict[str, torch.Tensor]:
    return found if isinstance(found, nn.Module) else dict(found)


def _some(names: Any) -> str:
    listed = list(names)
    more = f", … {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
