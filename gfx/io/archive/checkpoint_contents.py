"""Lays out flat what a checkpoint holds: the keys on the way to a value, joined by dots.

A dict in a dict and a prefix of names (`generator.conv.weight`) are then the same. What torch wraps
around modules (`_orig_mod`) is no part of a name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gfx.errors import ArchiveError

__all__ = ["TOP", "Contents", "bare", "same_values"]

_MOST = 2_000_000  # entries of a file that are looked at
_DEEPEST = 64  # containers in one another
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
TOP = "."  # the name of what lies in no container


@dataclass(frozen=True)
class _Leaf:
    """One value of a file: its flat path, and the number of the container that holds it."""

    path: str
    home: int
    value: Any


class Contents:
    """Lays out what a file holds.

    Raises: ArchiveError if it is nested without end.
    """

    def __init__(self, content: Any, file: Path) -> None:
        self.leaves: dict[str, _Leaf] = {}  # by path without wrappers
        self.modules: dict[str, nn.Module] = {}
        self.states: dict[str, int] = {}  # dicts of tensors alone, and how many each holds
        self.homes: dict[int, list[str]] = {}
        for seen, (path, home, value) in enumerate(_walk(content)):
            if seen >= _MOST:
                raise ArchiveError(
                    f"{file} holds more than {_MOST:,} entries in one another; save the state dict "
                    "of the model alone"
                )
            self._add(bare(path), home, value)

    def under(self, prefix: str) -> bool:
        """Whether anything lies under a prefix."""
        return any(path.startswith(f"{prefix}.") for path in self.leaves)

    def _add(self, path: str, home: int, value: Any) -> None:
        if isinstance(value, nn.Module):
            self.modules.setdefault(path or TOP, value)
        elif _is_state(value):
            if not re.search(r"optim", path, re.IGNORECASE) and not _numbered(path):
                self.states.setdefault(path or TOP, len(value))
        elif not isinstance(value, Mapping | list | tuple):
            if path in self.leaves:
                if not same_values(self.leaves[path].value, value):
                    value = None  # two values of one name: neither is taken
                self.homes[self.leaves[path].home].remove(path)
            self.leaves[path] = _Leaf(path, home, value)
            self.homes.setdefault(home, []).append(path)


def _walk(content: Any) -> Iterator[tuple[str, int, Any]]:
    """Yields every value with its path and container; a container that holds itself ends."""
    stack: list[tuple[str, int, Any, int]] = [("", 0, content, 0)]
    number = 0
    while stack:
        path, home, value, depth = stack.pop()
        yield path, home, value
        if depth > _DEEPEST:
            continue
        if isinstance(value, Mapping):
            inner = list(value.items())
        elif isinstance(value, list | tuple):
            inner = list(enumerate(value))
        else:
            continue
        number += 1
        start = f"{path}." if path else ""
        for key, item in reversed(inner):
            stack.append((f"{start}{key}", number, item, depth + 1))


def bare(path: str) -> str:
    """Leaves out of a path what torch wraps around modules.

    Example:
        >>> bare("net._orig_mod.conv.weight")
        'net.conv.weight'
    """
    if not any(wrapper in path for wrapper in _WRAPPERS):
        return path
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def same_values(a: Any, b: Any) -> bool:
    """Whether two values of a file are one: the same object, or equal tensors.

    Example:
        >>> same_values(torch.ones(2), torch.ones(2)), same_values(1.0, 1.0 + 1e-9)
        (True, False)
    """
    if a is b:
        return True
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    if a.dtype != b.dtype or a.layout != torch.strided or b.layout != torch.strided:
        return False
    return not (a.is_quantized or b.is_quantized) and bool(torch.equal(a, b))


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) for k in value)
        and any(isinstance(v, torch.Tensor) for v in value.values())
        and not any(isinstance(v, Mapping | list | tuple | nn.Module) for v in value.values())
    )


def _numbered(path: str) -> bool:
    """Whether a path leads through a number, as an optimizer's state does."""
    return any(part.isdigit() for part in path.split("."))
