"""Proposes subnets by a survey: what each choice costs alone, then what a model of it likes best.

1. The survey judges the whole net, and each dimension alone at up to three of its choices; with few
   evaluations at fewer, or not at all. These may be beyond the budgets: they only teach the model.
2. A model of the damage, a sum over choices, is fitted on all trials again before each batch.
3. A batch lies along the front from the smallest subnet to the budgets: an inner evolution finds
   what the model likes best at each of some costs, with exact prices. Every second proposal comes
   from a model of the trials drawn with replacement, which looks where the first is not sure.

A last quarter of the evaluations by TPE, which had seen all trials, found less of the front than
the model does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gfx.costs import Budget
from gfx.train.search.damage_model import DamageModel
from gfx.train.search.proposer import Proposer, rows_of
from gfx.train.search.search_space import Row, Table
from gfx.train.search.trial import Trial

__all__ = ["SurveyProposer"]

_LEVELS = (0.5, 0.0, 0.75)  # shares of the choices, in the order in which they are surveyed
_SURVEYED = 0.6  # share of the evaluations that the survey may take
_POPULATION, _GENERATIONS = 96, 24  # of the inner evolution


class SurveyProposer(Proposer):
    """Surveys, then follows a model of the damage."""

    def propose(self, trials: Sequence[Trial], count: int) -> list[Row]:
        """Returns what is left of the survey, else a batch along the front."""
        known = rows_of(trials)
        left = self.fresh(self.survey(), known, count)
        if left:
            return left
        judged = [trial for trial in trials if trial.known]
        rng = self.rng(trials)
        if len(judged) < 2:
            return self.drawn(known, count, rng)
        return self._along_the_front(judged, trials, count, rng)

    def survey(self) -> list[Row]:
        """Lists the rows of the survey (rule 1)."""
        counts, largest = self.space.counts, self.space.largest
        room = int(_SURVEYED * self.asked.evaluations) - 1
        if room < len(counts) // 2:  # too few to learn from
            return []
        found = [largest]
        known = {largest}
        for share in _LEVELS:
            for dim, count in enumerate(counts):
                row = list(largest)
                row[dim] = round(share * (count - 1))
                found += self.fresh([row], known, room + 1 - len(found))
        return found

    def _along_the_front(
        self, judged: Sequence[Trial], trials: Sequence[Trial], count: int, rng: np.random.Generator
    ) -> list[Row]:
        rows = np.array([trial.row for trial in judged], dtype=np.int64)
        losses = np.array([trial.loss for trial in judged])
        models = [DamageModel(self.space.counts, rows, losses)]
        again = rng.integers(0, len(judged), len(judged))
        weights = np.bincount(again, minlength=len(judged)).astype(float) + 0.05
        models.append(DamageModel(self.space.counts, rows, losses, weights))
        known = rows_of(trials)
        found: list[Row] = []
        budget, least, most = self._costs()
        best = rows[np.argsort(losses)][:_POPULATION]
        for number in range(count):
            # from the budget down; where a batch begins differs from batch to batch
            place = (number + rng.random()) / count
            limit = most * (least / most) ** (place**1.5) if number else most
            model = models[number % 2]
            made = self._best_at(model, budget, limit, best, rng)
            found += self.fresh(made, known, 1)
        missing = count - len(found)
        if missing:
            found += self.drawn(known, missing, rng)
        return found

    def _costs(self) -> tuple[Budget, float, float]:
        """Returns the measure that the front is spread over, and its ends."""
        budget = self.space.budgets[0] if self.space.budgets else Budget(limit=1.0)
        least, whole = self.space.value([self.space.smallest, self.space.largest], budget)
        most = min(float(whole), budget.limit) if self.space.budgets else float(whole)
        return budget, float(max(least, 1)), max(most, float(max(least, 1)))

    def _best_at(
        self,
        model: DamageModel,
        budget: Budget,
        limit: float,
        begun: Table,
        rng: np.random.Generator,
    ) -> Table:
        """Evolves subnets of at most a cost; the best come first."""
        space = self.space
        rows = np.concatenate([begun, space.draw(rng, _POPULATION)])
        rows = self._within(rows, budget, limit, rng)
        for _ in range(_GENERATIONS):
            kept = _best(rows, model.predict(rows), _POPULATION // 3)
            first = kept[rng.integers(0, len(kept), _POPULATION)]
            second = kept[rng.integers(0, len(kept), _POPULATION)]
            made = np.where(rng.random(first.shape) < 0.5, first, second)
            step = rng.integers(-1, 2, first.shape) * (rng.random(first.shape) < 0.25)
            made = np.clip(made + step, 0, np.array(space.counts) - 1)
            rows = np.concatenate([kept, self._within(made, budget, limit, rng)])
        return _best(rows, model.predict(rows), _POPULATION)

    def _within(
        self, table: Table, budget: Budget, limit: float, rng: np.random.Generator
    ) -> Table:
        """Makes rows smaller until they cost no more than a limit, and keep the budgets."""
        rows = self.space.within(table, rng)
        beyond = np.flatnonzero(self.space.value(rows, budget) > limit)
        while beyond.size:
            stuck = self.space.step_down(rows, beyond, rng)
            if stuck.all():
                break
            costs = self.space.value(rows[beyond], budget)
            beyond = beyond[(costs > limit) & ~stuck]
        return rows


def _best(rows: Table, losses: NDArray[np.float64], count: int) -> Table:
    """Returns the distinct rows of the least losses."""
    order = np.argsort(losses, kind="stable")
    _, first = np.unique(rows[order], axis=0, return_index=True)
    kept: Table = rows[order][np.sort(first)][:count]
    return kept
