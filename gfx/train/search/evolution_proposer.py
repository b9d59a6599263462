"""Proposes subnets by evolution, as GAN Compression and once-for-all networks do.

Source: Li et al. 2020, arXiv:2003.08936, section 3.3 and its code; Cai et al. 2020,
arXiv:1908.09791, appendix. In the code the last generation is judged and never compared; here the
parents are the best of all trials.
"""

from collections.abc import Sequence

import numpy as np

from gfx.train.search.proposer import Proposer, rows_of
from gfx.train.search.search_space import Row, Table
from gfx.train.search.trial import Trial

__all__ = ["EvolutionProposer"]

_ROUNDS = 50


class EvolutionProposer(Proposer):
    """Mutates and crosses the best subnets.

    1. The first `population` subnets are drawn at random.
    2. Parents are the best `parents` of a population, among all that were judged and keep the
       budgets; each generation is a population.
    3. A share `mutations` of the children are mutants of a parent, with each choice drawn anew at
       `rate`; the others take each choice from one of two parents.
    """

    def propose(self, trials: Sequence[Trial], count: int) -> list[Row]:
        """Returns children of the generation that is due."""
        asked, rng, known = self.asked, self.rng(trials), rows_of(trials)
        first = asked.population - len(trials)
        if first > 0:
            return self.drawn(known, min(count, first), rng)
        born = len(trials) // asked.population * asked.population
        judged = [t for t in trials[:born] if t.known and t.allowed]
        if not judged:
            return self.drawn(known, count, rng)
        judged.sort(key=lambda trial: (trial.loss, trial.number))
        kept = max(1, round(asked.parents * asked.population))
        parents = np.array([trial.row for trial in judged[:kept]], dtype=np.int64)
        found: list[Row] = []
        due = min(count, born + asked.population - len(trials))
        for _ in range(_ROUNDS):
            found += self.fresh(self._children(parents, due, rng), known, due - len(found))
            if len(found) >= due:
                return found
        return found + self.drawn(known, due - len(found), rng)

    def _children(self, parents: Table, count: int, rng: np.random.Generator) -> Table:
        first = parents[rng.integers(0, len(parents), count)]
        second = parents[rng.integers(0, len(parents), count)]
        mutants = rng.random(count) < self.asked.mutations
        made = self.space.cross(first, second, rng)
        made[mutants] = self.space.mutate(first, self.asked.rate, rng)[mutants]
        return made
