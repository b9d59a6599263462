"""Prices the changes of a table together: two narrowings save less than the sum of each alone.

Damages are taken to add up: those of relative_l2 squared, as independent errors do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gfx.compression.factor import Form
from gfx.costs import Budget
from gfx.coupling import Groups, analyse
from gfx.errors import InputError
from gfx.ir.layers import Layer, layers_of
from gfx.ir.program import Program
from gfx.planning import Choice, Option, PlanCosts, monotone
from gfx.sensitivity.prune_fields import width
from gfx.sensitivity.rows import DECOMPOSE, Key, Row
from gfx.sensitivity.table import Table

__all__ = ["PlanStep", "Plans"]

_MACS = (Budget(limit=1),)  # a unit to price in


@dataclass(frozen=True)
class PlanStep:
    """One change after others, with the totals up to it."""

    name: str  # a layer's path, or a group's name
    stage: str
    key: Key  # "decompose", or the share of the group's channels that is left
    saved: float  # share of the program's MACs
    damage: float


class Plans:
    """Lists the choices for the layers and groups of a table, and prices them.

    Raises: InputError if the table was not made by gfx.inspect.

    Example:
        >>> import gfx
        >>> plans = Plans(gfx.inspect(gfx.zoo.build("dcgan", ngf=4)))
        >>> sorted((c.name, c.kind, len(c.options)) for c in plans.choices)[:2]
        [('project.conv', 'group', 4), ('to_rgb', 'layer', 2)]
    """

    def __init__(self, table: Table) -> None:
        if table.program is None or table.form is None:
            raise InputError("the table knows no program; make it with gfx.inspect")
        self.table = table
        self.program: Program = table.program
        self.form: Form = table.form
        self.groups: Groups = analyse(self.program)
        self.layers: dict[str, Layer] = {layer.path: layer for layer in layers_of(self.program)}
        self.widths = self._widths()
        self.choices = self._choices()

    def costs(self, choices: Sequence[Choice]) -> PlanCosts:
        """Prices plans over some choices in MACs."""
        return PlanCosts(self.groups, tuple(self.layers.values()), choices, _MACS)

    def together(self, rows: Iterable[Row], key: Key) -> int:
        """Returns the MACs that one change of all these rows' layers or groups saves."""
        names = {row.layer if key == DECOMPOSE else row.group for row in rows}
        kind = "layer" if key == DECOMPOSE else "group"
        plan = np.zeros((2, len(self.choices)), dtype=np.int64)
        for place, choice in enumerate(self.choices):
            if choice.kind == kind and choice.name in names:
                plan[1, place] = self._number(choice, key)
        before, after = self.costs(self.choices)(plan)[:, 0]
        return round(float(before - after))

    def descent(self) -> list[PlanStep]:
        """Lists the changes from the best on, each priced after those before it.

        The best has the least damage per saving. A group may be narrowed several times.
        """
        choices = monotone(self.choices, self.costs(self.choices))
        price = self.costs(choices)
        damages = [np.array([option.damage for option in choice.options]) for choice in choices]
        plan = np.zeros(len(choices), dtype=np.int64)
        whole = left = float(price(plan[None])[0, 0])
        steps: list[PlanStep] = []
        while moves := [(i, n) for i, d in enumerate(damages) for n in range(plan[i] + 1, len(d))]:
            plans = np.tile(plan, (len(moves), 1))
            plans[range(len(moves)), [i for i, _ in moves]] = [n for _, n in moves]
            saved = left - price(plans)[:, 0]
            more = np.array([damages[i][n] - damages[i][plan[i]] for i, n in moves])
            if not (saved > 0).any():
                break
            rate = np.where(saved > 0, more / np.where(saved > 0, saved, 1), np.inf)
            best = int(np.lexsort((-saved, rate))[0])
            place, at = moves[best]
            plan, left = plans[best], left - float(saved[best])
            total = sum(float(d[n]) for d, n in zip(damages, plan, strict=True))
            steps.append(self._step(choices[place], at, 1 - left / whole, total))
        return steps

    def _step(self, choice: Choice, at: int, saved: float, damage: float) -> PlanStep:
        by_layer = choice.kind == "layer"
        names = {(row.layer if by_layer else row.group): row.stage for row in self.table}
        shown = damage**0.5 if self._squared else damage
        return PlanStep(choice.name, names[choice.name], self._key(choice, at), saved, shown)

    def _number(self, choice: Choice, key: Key) -> int:
        """Returns the number of the option that a key in the rows is; 0 if there is none.

        Two shares may leave a group the same width.
        """
        value: Any = self.form
        if not isinstance(key, str):
            value = width(self.groups, self.groups[choice.name], key)
        values = [option.value for option in choice.options]
        return values.index(value) if value in values else 0

    def _key(self, choice: Choice, at: int) -> Key:
        """Returns the key in the rows of an option."""
        width = choice.options[at].value
        return DECOMPOSE if choice.kind == "layer" else self.widths[choice.name][width]

    @property
    def _squared(self) -> bool:
        return self.table.facts.metric == "relative_l2"

    def _widths(self) -> dict[str, dict[int, float]]:
        """Returns for each group its probed widths, with their shares."""
        found: dict[str, dict[int, float]] = {}
        for row in self.table:
            shares = [k for k in _known(row) if not isinstance(k, str)]
            if row.group is not None and shares and row.group not in found:
                group = self.groups[row.group]
                found[row.group] = {width(self.groups, group, share): share for share in shares}
        return found

    def _choices(self) -> list[Choice]:
        """Lists the choices of each layer, and of each group once."""
        found: dict[tuple[str, str], Choice] = {}
        whole = Option(None, 0.0)
        for row in self.table:
            damage = {k: d**2 if self._squared else d for k, d in _known(row).items()}
            if DECOMPOSE in damage:
                option = Option(self.form, damage[DECOMPOSE])
                found["layer", row.layer] = Choice(row.layer, (whole, option), "layer")
            if row.group is not None and row.group in self.widths:
                tried = [Option(n, damage[share]) for n, share in self.widths[row.group].items()]
                found["group", row.group] = Choice(row.group, (whole, *tried), "group")
        return list(found.values())


def _known(row: Row) -> dict[Key, float]:
    """Returns the damage of each change that was measured and saves something."""
    saved = {key: row.saved.get(key) or 0 for key in row.damage}
    return {key: d for key, d in row.damage.items() if d is not None and saved[key] > 0}
