"""Defines proposers: who says which subnets a search judges next.

1. What is proposed is a function of the seed, of the trials so far and of how many are asked for:
   a search that was stopped goes on as if it had not been.
2. A proposal is no trial's row yet. A space that is used up gives fewer than were asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import Row, SearchSpace, Table
from gfx.train.search.trial import Trial

__all__ = ["Proposer", "RandomProposer", "fresh_rows", "rows_of"]

_ROUNDS = 50  # of draws, to find rows that are new


class Proposer(ABC):
    """Proposes rows of a space (rules 1 and 2)."""

    def __init__(self, space: SearchSpace, asked: Search, seed: int) -> None:
        self.space, self.asked, self.seed = space, asked, seed

    @abstractmethod
    def propose(self, trials: Sequence[Trial], count: int) -> list[Row]:
        """Returns rows that are judged next; `trials` are all that were claimed, in order."""

    def rng(self, trials: Sequence[Trial]) -> np.random.Generator:
        """Returns the random numbers of one proposal."""
        return np.random.default_rng([self.seed, len(trials)])

    def drawn(self, known: set[Row], count: int, rng: np.random.Generator) -> list[Row]:
        """Draws rows at random that are not known, and adds them to what is."""
        found: list[Row] = []
        for _ in range(_ROUNDS):
            found += self.fresh(self.space.draw(rng, count), known, count - len(found))
            if len(found) >= count:
                return found
        # few are left, if any: among so many there are enough that are new, where there are so many
        left = self.space.smallest_rows(len(known) + count)
        found += self.fresh(rng.permutation(np.array(left)), known, count - len(found))
        return found

    def fresh(self, table: Any, known: set[Row], most: int) -> list[Row]:
        """Returns the first subnets of a table that are not known, and adds them to what is."""
        return fresh_rows(self.space.canonical(table), known, most)


class RandomProposer(Proposer):
    """Proposes any subnets within the budgets."""

    def propose(self, trials: Sequence[Trial], count: int) -> list[Row]:
        """Draws rows."""
        return self.drawn(rows_of(trials), count, self.rng(trials))


def rows_of(trials: Sequence[Trial]) -> set[Row]:
    """Returns the rows that are claimed."""
    return {trial.row for trial in trials}


def fresh_rows(table: Table | Iterable[Sequence[int]], known: set[Row], most: int) -> list[Row]:
    """Returns the first rows of a table that are not known, and adds them to what is.

    Example:
        >>> known = {(0, 0)}
        >>> fresh_rows([(0, 0), (0, 1), (0, 1), (1, 1)], known, 1), len(known)
        ([(0, 1)], 2)
    """
    found: list[Row] = []
    for each in table:
        row = tuple(int(n) for n in each)
        if len(found) < most and row not in known:
            known.add(row)
            found.append(row)
    return found
