"""Defines the row of one layer: its cost, its possible changes, and their damage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gfx.ir.ambient_modes import shielded

__all__ = ["DECOMPOSE", "LEAVE", "Key", "Row", "narrowed", "spelled"]

DECOMPOSE: Literal["decompose"] = "decompose"
LEAVE = "leave"
Key = str | float  # "decompose", or the share of channels that a narrowing leaves, as 0.5


@shielded
@dataclass(frozen=True)
class Row:
    """The facts and measurements of one layer.

    `damage`, `value`, `saved` and `widths` have the same keys in the same order: "decompose", then
    the widths as shares. A damage of None could not be measured, and `notes` says why.
    Narrowing is of the whole channel group: all layers of a group have the same figures.

    Units: multiply-accumulates in the exact convention, for one run of the example inputs;
    parameter elements; damage as the metric's `cost` has it, 0 where nothing changes.
    """

    layer: str  # module path
    stage: str  # stem, down, body, up or head
    kind: str  # class of the module, or the function
    calls: int  # how often a forward runs it
    inputs: tuple[int, ...]  # shape of what its first call reads
    outputs: tuple[int, ...]  # shape of what its first call writes
    params: int
    macs: int  # over all calls
    share: float  # of the MACs of the program
    group: str | None  # the channels it writes: the name of their group
    channels: int  # how many the group has; 0 without a group
    free: bool  # whether the group may be narrowed
    why: str  # why not; "" if it may
    approximate: str  # why narrowing is only approximately a removal; "" if it is exact
    damage: Mapping[Key, float | None]
    saved: Mapping[Key, int | None]  # MACs of the program that it would save
    value: Mapping[Key, float | None]  # the metric itself, as dB where it is PSNR
    widths: Mapping[float, int | None]  # channels left at each share
    notes: Mapping[Key, str] = field(default_factory=dict)  # why a figure is None
    recommend: str = LEAVE  # decompose, narrow to n, or leave
    choice: Key | None = None  # the key that is recommended

    @property
    def worth(self) -> float:
        """MACs saved per damage: of the recommended change, else of the best one."""
        keys = [self.choice] if self.choice is not None else list(self.damage)
        return max((self.rate(key) for key in keys), default=0.0)

    def rate(self, key: Key) -> float:
        """Returns the MACs saved per damage of one option; 0 if it saves nothing."""
        damage, saved = self.damage.get(key), self.saved.get(key)
        if damage is None or saved is None or saved <= 0:
            return 0.0
        return saved / damage if damage > 0 else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, ready for JSON: widths as keys are spelled "0.5"."""
        tables: dict[str, Mapping[Any, Any]] = {
            "damage": self.damage,
            "saved": self.saved,
            "value": {key: _plain(value) for key, value in self.value.items()},
            "widths": self.widths,
            "notes": self.notes,
        }
        return {
            "layer": self.layer,
            "stage": self.stage,
            "kind": self.kind,
            "calls": self.calls,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "params": self.params,
            "macs": self.macs,
            "share": self.share,
            "group": self.group,
            "channels": self.channels,
            "free": self.free,
            "why": self.why,
            "approximate": self.approximate,
            **{name: {spelled(k): v for k, v in table.items()} for name, table in tables.items()},
            "recommend": self.recommend,
            "choice": None if self.choice is None else spelled(self.choice),
        }


def spelled(key: Key) -> str:
    """Writes a key as text.

    Example:
        >>> spelled("decompose"), spelled(0.5)
        ('decompose', '0.5')
    """
    return key if isinstance(key, str) else f"{key:g}"


def narrowed(width: int | None) -> str:
    """Writes a narrowing as a recommendation."""
    return f"narrow to {width}"


def _plain(value: float | None) -> float | str | None:
    return str(value) if value in (float("inf"), float("-inf")) else value
