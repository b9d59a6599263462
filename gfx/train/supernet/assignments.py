"""Holds the choices of a supernet, and reads assignments: widths of groups, options of choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gfx.compression.selection.width_choices import Ties
from gfx.errors import InputError, did_you_mean

__all__ = ["Assignment", "ElasticChoices", "Setting"]

Setting = int | str  # a width, or an option
Assignment = Mapping[str, Setting]


@dataclass(frozen=True)
class ElasticChoices:
    """The choices there are: by name, the widths of a group or the options of a choice.

    Each lists the smallest first; the last is what the largest net has.

    Example:
        >>> options = {"block.skip": ("skipped", "kept")}
        >>> choices = ElasticChoices({"up": (8, 16)}, {"up": 1}, (), options)
        >>> choices.full({"up": 8}), choices.units({"up": 8, "block.skip": "skipped"})
        ({'up': 8, 'block.skip': 'kept'}, [8, 0])
    """

    widths: Mapping[str, tuple[int, ...]]  # of elastic groups
    each: Mapping[str, int]  # channels that go together, of each of these
    ties: Ties  # names of groups that are chosen together
    options: Mapping[str, tuple[str, ...]]  # of choices, in the order of the graph
    kept_whole: Mapping[str, str] = field(default_factory=dict)  # why other groups have none

    @property
    def all(self) -> dict[str, tuple[Setting, ...]]:
        """All choices by name."""
        return {**self.widths, **self.options}

    @property
    def dimensions(self) -> tuple[tuple[str, ...], ...]:
        """The choices that are made apart: of one group, of groups together, or of one choice."""
        tied = {name: tie for tie in self.ties for name in tie}
        known = dict.fromkeys(tied.get(name, (name,)) for name in self.widths)
        # what is kept whole has no part in a choice
        found = [tuple(n for n in names if n in self.widths) for names in known]
        return (*found, *((name,) for name in self.options))

    def largest(self) -> dict[str, Any]:
        """Returns the last of each choice."""
        return {name: values[-1] for name, values in self.all.items()}

    def first(self) -> dict[str, Any]:
        """Returns the first of each choice."""
        return {name: values[0] for name, values in self.all.items()}

    def sample(self, seed: int, step: int) -> dict[str, Any]:
        """Draws each choice, all that it may be as likely."""
        rng, every = np.random.default_rng([seed, step]), self.all
        drawn: dict[str, Setting] = {}
        for names in self.dimensions:
            number = int(rng.integers(len(every[names[0]])))
            drawn |= {name: every[name][number] for name in names}
        return {name: drawn[name] for name in every}

    def full(self, given: Assignment) -> dict[str, Any]:
        """Fills in what the largest net has, and checks what is given.

        Raises: InputError if a name or a value is none of those there are.
        """
        every = self.all
        for name, value in given.items():
            if name not in every:
                raise InputError(self._unknown(name))
            if value not in every[name] or isinstance(value, bool):
                known = ", ".join(map(str, every[name]))
                if name in self.options:
                    raise InputError(f"{name} cannot be {value!r}; its options are {known}")
                raise InputError(f"{name} cannot be {value} wide; its widths are {known}")
        read = {name: int(v) if name in self.widths else v for name, v in given.items()}
        return {**self.largest(), **read}

    def _unknown(self, name: str) -> str:
        if name in self.kept_whole:
            return f"{name} is no group with a choice of widths: {self.kept_whole[name]}"
        kind = ", form or block with a choice" if self.options else " with a choice of widths"
        return f"{name} is no group{kind}{did_you_mean(name, self.all)}"

    def units(self, full: Assignment) -> list[int]:
        """Returns channels that go together of each group, then the numbers of the options."""
        widths = [int(full[name]) // self.each[name] for name in self.widths]
        return [*widths, *(self.options[name].index(str(full[name])) for name in self.options)]

    def shares(self, full: Assignment) -> list[float]:
        """Returns each choice as a share of what the largest net has, at most 1.

        Example:
            >>> ElasticChoices({"up": (8, 16)}, {"up": 1}, (), {}).shares({"up": 8})
            [0.5]
        """
        widths = [int(full[name]) / values[-1] for name, values in self.widths.items()]
        numbers = [
            values.index(str(full[name])) / (len(values) - 1)
            for name, values in self.options.items()
        ]
        return [*widths, *numbers]
