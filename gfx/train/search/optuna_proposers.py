"""Proposes subnets by Optuna's samplers: NSGA-II and TPE, of the loss and the cost together.

Each proposal is asked of a study that is told all trials: nothing depends on what a process has in
memory. Proposals beyond the budgets are made smaller until they keep them.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from gfx.costs import Budget
from gfx.errors import InputError
from gfx.train.search.proposer import Proposer, rows_of
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import Row, SearchSpace
from gfx.train.search.trial import Trial

__all__ = ["NsgaProposer", "TpeProposer", "optuna_module"]

_MOST = 4  # how often a proposal is asked for anew, for each that is wanted
_NSGA_POPULATION = 50  # at most, as Optuna's own


def optuna_module(what: str) -> Any:
    """Imports Optuna.

    Raises: InputError naming the extra, if it is not installed.
    """
    if find_spec("optuna") is None:
        raise InputError(
            f"{what} needs Optuna, which is not installed; install the extra: pip install "
            "'gfx-compiler[search]', or take by: survey, evolution or random in one process"
        )
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class _OptunaProposer(Proposer):
    """Asks a sampler of Optuna."""

    def __init__(self, space: SearchSpace, asked: Search, seed: int) -> None:
        super().__init__(space, asked, seed)
        self.optuna = optuna_module(f"by: {asked.by}")

    def sampler(self, seed: int) -> Any:
        """Makes the sampler."""
        raise NotImplementedError

    def notes(self, number: int) -> dict[str, Any]:
        """Returns what the sampler keeps with a trial."""
        return {}

    def propose(self, trials: Sequence[Trial], count: int) -> list[Row]:
        """Asks the sampler, which is told all trials."""
        rng = self.rng(trials)
        study = self._told(trials, int(rng.integers(2**31)))
        known = rows_of(trials)
        found: list[Row] = []
        for _ in range(_MOST * count):
            if len(found) == count:
                break
            asked = study.ask(self._distributions())
            row = [asked.params[name] for name in self.space.names]
            found += self.fresh(self.space.within([row], rng), known, 1)
        if len(found) < count:
            found += self.drawn(known, count - len(found), rng)
        return found

    def _distributions(self) -> dict[str, Any]:
        integers = self.optuna.distributions.IntDistribution
        pairs = zip(self.space.names, self.space.counts, strict=True)
        return {name: integers(0, count - 1) for name, count in pairs}

    def _told(self, trials: Sequence[Trial], seed: int) -> Any:
        study = self.optuna.create_study(
            directions=["minimize", "minimize"], sampler=self.sampler(seed)
        )
        judged = [trial for trial in trials if trial.known]
        if not judged:
            return study
        budget = self.space.budgets[0] if self.space.budgets else Budget(limit=1.0)
        costs = self.space.value(np.array([trial.row for trial in judged]), budget)
        distributions = self._distributions()
        for number, (trial, cost) in enumerate(zip(judged, costs, strict=True)):
            study.add_trial(
                self.optuna.trial.create_trial(
                    params=dict(zip(self.space.names, trial.row, strict=True)),
                    distributions=distributions,
                    values=[trial.loss, float(cost)],
                    system_attrs=self.notes(number),
                )
            )
        return study


class NsgaProposer(_OptunaProposer):
    """NSGA-II. Source: Deb et al. 2002, IEEE TEC 6(2)."""

    @property
    def population(self) -> int:
        """How many subnets a generation has."""
        return min(self.asked.population, _NSGA_POPULATION)

    def sampler(self, seed: int) -> Any:
        """Makes the sampler."""
        return self.optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)

    def notes(self, number: int) -> dict[str, Any]:
        """Returns the generation of a trial."""
        return {"NSGAIISampler:generation": number // self.population}


class TpeProposer(_OptunaProposer):
    """The tree-structured Parzen estimator. Source: Bergstra et al. 2011, NeurIPS."""

    def sampler(self, seed: int) -> Any:
        """Makes the sampler."""
        return self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=10)
