"""Joins removals that follow one another, as `kept` asks for where channels go together at first.

Each step is held to what it must equal, and the record is in the numbers of the first program.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfx.compression.selection.removal_record import record
from gfx.coupling import Groups
from gfx.coupling.analysis import analyse_like
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.coupling.removal import masked, remove
from gfx.errors import VerificationError
from gfx.ir.drawn_numbers import drawing_as
from gfx.ir.execute import distance, draw, on_meta, run, tolerance
from gfx.ir.program import Program

__all__ = ["Removal", "Step", "take", "zero"]

# the groups of the program as it is, what to remove of it, and whether more follows
Step = tuple[Groups, Mask, bool]


@dataclass(frozen=True)
class Removal:
    """What one removal, or several in turn, left."""

    stay: dict[str, tuple[int, list[int]]]  # by module: how many there were, and which stay
    details: dict[str, Any]  # as `record` has them

    @classmethod
    def of(cls, groups: Groups, removed: Mask) -> "Removal":
        """Describes a removal that is about to be done."""
        stay = stays(groups, removed)
        return cls(stay, record(groups, removed, {name: kept for name, (_, kept) in stay.items()}))

    def then(self, further: "Removal") -> "Removal":
        """Joins a removal from the program that this one left."""
        details = _joined(self.details, further.details)
        sizes = {name: size for name, (size, _) in (further.stay | self.stay).items()}
        return Removal(
            {name: (sizes[name], kept) for name, kept in details["kept"].items()}, details
        )


def take(program: Program, steps: Iterable[Step]) -> Removal | None:
    """Removes step after step from a program, in place; returns what they left, None if nothing."""
    done: Removal | None = None
    for groups, removed, _ in steps:
        if not removed.any():
            continue
        step = Removal.of(groups, removed)
        # statistics of weights, such as a spectral norm that the model computes
        stored = remove(program, groups, removed)
        step.details.update({"stored": list(stored)} if stored else {})
        done = done.then(step) if done else step
    return done


def zero(who: str, program: Program, steps: Iterable[Step]) -> Program:
    """Makes a program the reference of a removal: all but the last step is done, and checked.

    Raises: VerificationError if a step that another one follows is not what it must equal.
    """
    for groups, removed, more in steps:
        if not more:
            masked(program, groups, removed)
            continue
        reference = program.copy(on_write=True)
        masked(reference, analyse_like(groups, reference), removed)
        remove(program, groups, removed)
        _compare(who, reference, program)
    return program


def _compare(who: str, reference: Program, program: Program) -> None:
    if on_meta(program):
        return
    inputs, allowed = draw(program), tolerance(program)
    error = distance(run(drawing_as(program, reference), inputs), run(program, inputs))
    if error > allowed:
        raise VerificationError(
            f"{who}: values: a step of the removal differs by {error:.3g} of the largest output, "
            f"{allowed:.0e} is allowed"
        )


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of two removals, one after the other, in the numbers of the first."""
    removed, total = first["achieved"]["removed"], first["achieved"]["of"]
    removed += second["achieved"]["removed"]
    reasons = first.get("approximate", {}) | second.get("approximate", {})
    paths = dict.fromkeys([*first["tensors"], *second["tensors"]])
    stored = [*first.get("stored", ()), *second.get("stored", ())]
    return {
        "achieved": {"ratio": removed / total, "removed": removed, "of": total},
        **({"approximate": reasons} if reasons else {}),
        "groups": [*first["groups"], *second["groups"]],
        "kept": _renumbered(first["kept"], second["kept"]),
        "tensors": {
            path: _renumbered(first["tensors"].get(path, {}), second["tensors"].get(path, {}))
            for path in paths
        },
        **({"stored": stored} if stored else {}),
    }


def _renumbered(
    first: Mapping[str, Sequence[int]], second: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """Says in the numbers of a first removal what stays after a second one.

    Example:
        >>> _renumbered({"a": [0, 2, 3], "b": [1]}, {"a": [0, 2], "c": [4]})
        {'a': [0, 3], 'b': [1], 'c': [4]}
    """
    stay = {
        name: [first[name][i] for i in s] if name in first else [*s] for name, s in second.items()
    }
    return {name: stay.get(name, [*first.get(name, ())]) for name in [*first, *stay]}
