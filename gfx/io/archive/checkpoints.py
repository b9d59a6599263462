"""Finds the networks in a checkpoint: modules, and state dicts at any depth under any prefix.

1. What a file holds is laid out flat: the keys on the way to a value, joined by dots. A dict in a
   dict and a prefix of names (`generator.conv.weight`) are then the same.
2. A network is found by its own state dict: a prefix under which every name is, in its shape.
   Counts of batches may be missing, as in files that predate them.
3. A tensor beside them that the network does not know means another network, unless it is a
   counter (`step`, `n_averaged`).
4. What torch wraps around modules (`_orig_mod`) is no part of a name. A prefix that all names of
   the module share may be missing in the file, and so may the dots, as some averages leave them
   out.
5. Several that fit are a choice, which is the user's; those of equal values are one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gfx.errors import ArchiveError

__all__ = ["TOP", "Candidate", "Contents", "candidates_of", "closest", "says_average"]

_MOST = 2_000_000  # entries of a file that are looked at
_DEEPEST = 64  # containers in one another
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
_AVERAGE = re.compile(
    r"(?i:(?<![a-z])(ema|avg|averaged?|shadow|smooth(ed)?)(?![a-z]))|EMA|(?<=[a-z])Ema(?![a-z])"
)
_COUNTED = "num_batches_tracked"
_AVERAGER = "n_averaged"  # what torch.optim.swa_utils.AveragedModel counts in
TOP = "."  # the name of what lies in no container


@dataclass(frozen=True)
class _Leaf:
    """One value of a file: its flat path, and the number of the container that holds it."""

    path: str
    home: int
    value: Any


@dataclass(frozen=True)
class Candidate:
    """A state dict in a file that fits a module, or a module itself."""

    name: str  # the prefix; "." if there is none
    state: Mapping[str, Any]  # by the module's own names; empty if there is a module
    average: bool  # whether its name, or a counter beside it, says that it is an average
    module: nn.Module | None = None

    def equals(self, other: "Candidate") -> bool:
        """Whether two hold the same values."""
        if self.module is not other.module or self.state.keys() != other.state.keys():
            return False
        return all(_same(value, other.state[name]) for name, value in self.state.items())


class Contents:
    """Lays out what a file holds (rule 1).

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
            self._add(_bare(path), home, value)

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
                if not _same(self.leaves[path].value, value):
                    value = None  # two values of one name: neither is taken
                self.homes[self.leaves[path].home].remove(path)
            self.leaves[path] = _Leaf(path, home, value)
            self.homes.setdefault(home, []).append(path)


def candidates_of(contents: Contents, expected: Mapping[str, Any]) -> list[Candidate]:
    """Lists what in a file fits a state dict (rules 2 to 5).

    Example:
        >>> net = nn.Conv2d(1, 1, 1)
        >>> held = Contents({"step": 3, "g": net.state_dict()}, Path("a.pt"))
        >>> [found.name for found in candidates_of(held, net.state_dict())]
        ['g']
    """
    for names in _spellings(expected):
        found: list[Candidate] = []
        for prefix, hits in _hits(contents, names).items():
            if _problem(contents, prefix, hits, names, expected) is None:
                state = {names[name]: contents.leaves[path].value for name, path in hits.items()}
                one = Candidate(prefix or TOP, state, _is_average(contents, prefix))
                if not any(one.equals(other) for other in found):
                    found.append(one)
        if found:
            return found
    return []


def closest(
    contents: Contents, expected: Mapping[str, Any], under: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Returns the prefix under which most names of a state dict are, and all that lies there.

    `under` limits the search to what lies under a prefix.
    """
    names = {_bare(name): name for name in expected}
    hits = _hits(contents, names)
    if under is not None:
        inside = (f"{under}.", under)
        hits = {p: found for p, found in hits.items() if f"{p}.".startswith(inside)}
    best = max(hits, key=lambda p: (len(hits[p]), -len(p)), default=under or "")
    start = f"{best}." if best else ""
    homes = {contents.leaves[path].home for path in hits.get(best, {}).values()}
    held = {
        path.removeprefix(start): leaf.value
        for path, leaf in contents.leaves.items()
        if path.startswith(start)
        and isinstance(leaf.value, torch.Tensor)
        and (not homes or leaf.home in homes)
    }
    return best, {names.get(name, name): value for name, value in held.items()}


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


def _bare(path: str) -> str:
    """Leaves out what torch wraps around modules (rule 4)."""
    if not any(wrapper in path for wrapper in _WRAPPERS):
        return path
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def _spellings(expected: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yields the names that a file may give the tensors of a module (rule 4)."""
    names = {_bare(name): name for name in expected}
    yield names
    shorter = names
    while shorter and len({name.partition(".")[0] for name in shorter}) == 1:
        shorter = {name.partition(".")[2]: own for name, own in shorter.items()}
        if not any("." in name for name in shorter):
            break  # one layer: its weight and bias are everybody's
        yield shorter
    dotless = {name.replace(".", ""): own for name, own in names.items()}
    if len(dotless) == len(names):
        yield dotless


def _hits(contents: Contents, names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Maps each prefix to the names found under it, and their paths."""
    deepest = max((name.count(".") + 1 for name in names), default=0)
    hits: dict[str, dict[str, str]] = {}
    for path in contents.leaves:
        parts = path.split(".")
        for place in range(max(len(parts) - deepest, 0), len(parts)):
            name = ".".join(parts[place:])
            if name in names:
                hits.setdefault(".".join(parts[:place]), {})[name] = path
    return hits


def _problem(
    contents: Contents,
    prefix: str,
    hits: Mapping[str, str],
    names: Mapping[str, str],
    expected: Mapping[str, Any],
) -> str | None:
    """Says why what lies under a prefix does not fit; None if it does (rules 2 and 3)."""
    if not hits or any(n not in hits and n.rpartition(".")[2] != _COUNTED for n in names):
        return "names are missing"
    for name, path in hits.items():
        if not _fits(contents.leaves[path].value, expected[names[name]]):
            return f"{name} is of another shape"
    start, known = f"{prefix}." if prefix else "", set(hits.values())
    for home in {contents.leaves[path].home for path in hits.values()}:
        for path in contents.homes[home]:
            if path in known or not path.startswith(start):
                continue
            if not _is_counter(path.removeprefix(start), contents.leaves[path].value):
                return f"{path} is unknown to the module"
    return None


def _fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, torch.Tensor):
        return True
    return isinstance(value, torch.Tensor) and (is_lazy(wanted) or value.shape == wanted.shape)


def _is_counter(name: str, value: Any) -> bool:
    """Whether a value beside a network's own is none of its weights (rule 3)."""
    if not isinstance(value, torch.Tensor):
        return True
    whole = not value.is_floating_point() and not value.is_complex()
    return value.numel() == 1 and "." not in name and (whole or name == "decay")


def says_average(name: str) -> bool:
    """Whether a name says that it is of an average.

    Example:
        >>> [says_average(name) for name in ("g_ema", "params", "ema_model", "schema")]
        [True, False, True, False]
    """
    return bool(_AVERAGE.search(name))


def _is_average(contents: Contents, prefix: str) -> bool:
    outer, _, last = prefix.rpartition(".")
    beside = f"{outer}.{_AVERAGER}" if outer else _AVERAGER
    return says_average(prefix) or (last == "module" and beside in contents.leaves)


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


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    if a.dtype != b.dtype or a.layout != torch.strided or b.layout != torch.strided:
        return False
    return not (a.is_quantized or b.is_quantized) and bool(torch.equal(a, b))
