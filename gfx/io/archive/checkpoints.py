"""Finds the networks in a checkpoint: modules, and state dicts at any depth under any prefix.

1. What a file holds is laid out flat (gfx/io/archive/checkpoint_contents.py).
2. A network is found by its own state dict: a prefix under which every name is, in its shape.
   Counts of batches may be missing, as in files that predate them.
3. A tensor beside them that the network does not know means another network, unless it is a
   counter (`step`, `n_averaged`).
4. What torch wraps around modules (`_orig_mod`) is no part of a name. A prefix that all names of
   the module share may be missing in the file, and so may the dots, as some averages leave them
   out.
5. Several that fit are a choice, which is the user's; those of equal values are one, under any of
   their names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gfx.io.archive.checkpoint_contents import TOP, Contents, bare, same_values

__all__ = ["Candidate", "candidates_of", "closest", "distinct", "says_average"]

_AVERAGE = re.compile(
    r"(?i:(?<![a-z])(ema|avg|averaged?|shadow|smooth(ed)?)(?![a-z]))|EMA|(?<=[a-z])Ema(?![a-z])"
)
_COUNTED = "num_batches_tracked"
_AVERAGER = "n_averaged"  # what torch.optim.swa_utils.AveragedModel counts in


@dataclass(frozen=True)
class Candidate:
    """A state dict in a file that fits a module, or a module itself."""

    name: str  # the prefix; "." if there is none
    state: Mapping[str, Any]  # by the module's own names; empty if there is a module
    average: bool  # whether its name, or a counter beside it, says that it is an average
    module: nn.Module | None = None

    def equals(self, other: "Candidate") -> bool:
        """Whether two hold the same values."""
        if self.module is not None or other.module is not None:
            return self.module is other.module
        if not self.state or self.state.keys() != other.state.keys():  # values may not be known
            return False
        return all(same_values(value, other.state[name]) for name, value in self.state.items())


def candidates_of(contents: Contents, expected: Mapping[str, Any]) -> list[Candidate]:
    """Lists what in a file fits a state dict (rules 2 to 4).

    Example:
        >>> from pathlib import Path
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
                found.append(Candidate(prefix or TOP, state, _is_average(contents, prefix)))
        if found:
            return found
    return []


def distinct(found: Sequence[Candidate]) -> list[Candidate]:
    """Lists the first of all that hold the same values (rule 5).

    Example:
        >>> net = nn.Conv2d(1, 1, 1)
        >>> same = [Candidate(name, net.state_dict(), False) for name in ("params", "params_ema")]
        >>> [found.name for found in distinct(same)]
        ['params']
    """
    kept: list[Candidate] = []
    for one in found:
        if not any(one.equals(other) for other in kept):
            kept.append(one)
    return kept


def closest(
    contents: Contents, expected: Mapping[str, Any], under: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Returns the prefix under which most names of a state dict are, and all that lies there.

    `under` limits the search to what lies under a prefix.
    """
    names = {bare(name): name for name in expected}
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


def _spellings(expected: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yields the names that a file may give the tensors of a module (rule 4)."""
    names = {bare(name): name for name in expected}
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
    if not isinstance(value, torch.Tensor) or value.is_nested:  # several tensors, of no one shape
        return False
    return is_lazy(wanted) or value.shape == wanted.shape


def _is_counter(name: str, value: Any) -> bool:
    """Whether a value beside a network's own is none of its weights (rule 3)."""
    if not isinstance(value, torch.Tensor):
        return True
    whole = not value.is_floating_point() and not value.is_complex()
    return (
        not value.is_nested
        and value.numel() == 1
        and "." not in name
        and (whole or name == "decay")
    )


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
