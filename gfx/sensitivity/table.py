"""Defines the table of all layers: iterates, filters, sorts, sums up by stage, exports data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from gfx.compression.factor import Form
from gfx.ir.globs import matches
from gfx.ir.program import Program
from gfx.ir.stages import STAGES
from gfx.sensitivity.rows import Key, Row, spelled

__all__ = ["Stage", "Table", "TableFacts"]


@dataclass(frozen=True)
class TableFacts:
    """Facts about how a table was made."""

    model: str  # class of the model
    macs: int  # of the whole program, exact convention
    params: int
    metric: str
    higher_is_better: bool  # whether a larger `value` is better; a larger damage never is
    measured: bool  # False: ranked by one forward and one backward (fast)
    synthetic: bool  # whether the inputs are synthetic
    inputs: tuple[str, ...]  # sentences: the inputs of the runs, and the assumptions
    shapes: tuple[tuple[int, ...], ...]  # of the inputs of one batch
    batches: int
    examples: int
    seed: int
    keys: tuple[Key, ...]  # changes that were probed: "decompose", widths as shares
    form: str  # the form of decompositions
    tolerate: float = 0.05  # largest damage of a recommended change
    needs: tuple[str, ...] = ()  # passes that a recipe must begin with for this to hold
    notes: tuple[str, ...] = ()  # sentences: further remarks for the user


@dataclass(frozen=True)
class Stage:
    """The layers of one stage together."""

    stage: str
    layers: int
    params: int
    macs: int
    share: float  # of the MACs of the program
    damage: dict[Key, float | None]  # mean over the layers where it is known; None: nowhere

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self) | {"damage": {spelled(k): v for k, v in self.damage.items()}}


@dataclass(frozen=True)
class Table:
    """Rows, one for each layer, sorted by worth.

    Example:
        >>> import gfx
        >>> table = gfx.inspect(gfx.zoo.build("dcgan", ngf=4))
        >>> len(table), len(table.filter(stage="up")), table["to_rgb"].free
        (5, 5, False)
    """

    rows: tuple[Row, ...]
    facts: TableFacts
    program: Program | None = field(default=None, repr=False, compare=False)  # inspected
    form: Form | None = field(default=None, repr=False, compare=False)  # of the decomposition

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: int | str) -> Row:
        if isinstance(name, int):
            return self.rows[name]
        for row in self.rows:
            if row.layer == name:
                return row
        raise KeyError(name)

    def filter(self, keep: Callable[[Row], bool] | None = None, **fields: Any) -> Self:
        """Returns the table of some rows: those a function keeps, with fields of given values.

        A text may be a glob, and a list names several values.

        Raises: TypeError if a row has no such field.

        Example: `table.filter(stage="body", kind="Conv*")`, `table.filter(lambda r: r.free)`.
        """
        unknown = [name for name in fields if name not in Row.__dataclass_fields__]
        if unknown:
            known = ", ".join(Row.__dataclass_fields__)
            raise TypeError(f"a row has no field {unknown[0]!r}; its fields: {known}")
        rows = (row for row in self.rows if keep is None or keep(row))
        left = (
            row
            for row in rows
            if all(_matches(getattr(row, name), wanted) for name, wanted in fields.items())
        )
        return replace(self, rows=tuple(left))

    def sort(self, key: str | Callable[[Row], Any], *, reverse: bool = False) -> Self:
        """Returns the table in another order: by a field, or by a function of a row.

        Example: `table.sort("macs", reverse=True)`, `table.sort(lambda r: r.saved["decompose"])`.
        """
        of = key if callable(key) else lambda row: getattr(row, key)
        return replace(self, rows=tuple(sorted(self.rows, key=of, reverse=reverse)))

    def stages(self) -> tuple[Stage, ...]:
        """Sums up each stage that has layers, from stem to head."""
        found = []
        for stage in STAGES:
            rows = [row for row in self.rows if row.stage == stage]
            if not rows:
                continue
            found.append(
                Stage(
                    stage,
                    len(rows),
                    sum(row.params for row in rows),
                    sum(row.macs for row in rows),
                    sum(row.share for row in rows),
                    {key: _mean(rows, key) for key in self.facts.keys},
                )
            )
        return tuple(found)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns the rows as plain data."""
        return [row.to_dict() for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data, ready for JSON."""
        facts = asdict(self.facts)
        facts["shapes"] = [list(shape) for shape in self.facts.shapes]
        facts["keys"] = [spelled(key) for key in self.facts.keys]
        for name in ("inputs", "needs", "notes"):
            facts[name] = list(facts[name])
        return {
            "facts": facts,
            "stages": [stage.to_dict() for stage in self.stages()],
            "rows": self.to_dicts(),
        }


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list | tuple | set | frozenset) and not isinstance(value, tuple):
        return any(_matches(value, each) for each in wanted)
    if isinstance(value, str) and isinstance(wanted, str):
        return value == wanted or matches(value, wanted)
    return bool(value == wanted)


def _mean(rows: Sequence[Row], key: Key) -> float | None:
    known = [damage for row in rows if (damage := row.damage.get(key)) is not None]
    return sum(known) / len(known) if known else None
