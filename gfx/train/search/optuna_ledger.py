"""Keeps a search in an Optuna study, which many workers share: a journal file, or a database.

1. A claim is a trial of the study that runs, written at once with its row and its worker.
2. Of the trials that have not failed, in the order of their numbers, those with a new row count, up
   to how many the search has: every worker finds the same ones. A claim that does not count fails.
3. A trial whose worker has died fails (`living_workers.py`).
"""

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gfx.errors import InputError
from gfx.io.guards import printable
from gfx.train.search.ledger import differences, read_trial, written_trial
from gfx.train.search.living_workers import WorkerName, signs_of_life
from gfx.train.search.optuna_proposers import optuna_module
from gfx.train.search.search_space import Row, SearchSpace
from gfx.train.search.trial import Trial

__all__ = ["OptunaLedger"]

_STUDY = "gfx"
_ROW, _WORKER, _FOUND, _SIGN = "gfx:row", "gfx:worker", "gfx:trial", "gfx:sign"


class OptunaLedger:
    """Keeps trials in a study.

    Args:
        storage: `journal:FILE`, a path of such a file, or what Optuna takes, as sqlite:///search.db.
        identity: what the search is; a study of another is refused.
        space: whose dimensions are the study's parameters.
        most: how many trials the search has in all.

    Raises: InputError if the storage cannot be reached, or holds another search.
    """

    def __init__(
        self, storage: str, identity: Mapping[str, Any], space: SearchSpace, most: int
    ) -> None:
        self.optuna = optuna_module("a storage that workers share")
        self.space, self.storage, self.most = space, storage, most
        self.worker = WorkerName.own()
        known = json.loads(json.dumps(identity))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's own, of what is experimental
            try:
                self.study = self.optuna.create_study(
                    study_name=_STUDY,
                    storage=_opened(self.optuna, storage),
                    directions=["minimize"],
                    load_if_exists=True,
                )
                held = self.study.user_attrs.get("gfx:search")
                if held is None and not self.study.get_trials(deepcopy=False):
                    self.study.set_user_attr("gfx:search", known)
                    held = self.study.user_attrs["gfx:search"]
            except Exception as error:  # of databases, drivers, files: many kinds
                raise InputError(
                    f"the storage {printable(storage)} cannot be reached: "
                    f"{type(error).__name__}: {_first_line(error)}; give journal:FILE, or a "
                    "database that this machine reaches, as sqlite:///search.db"
                ) from error
        differences(held, known, f"the storage {printable(storage)}")

    def trials(self) -> list[Trial]:
        """Returns the trials that count (rule 2), after those of dead workers have failed."""
        found = []
        for kept in self._counted():
            said = kept.user_attrs.get(_FOUND) if kept.state.is_finished() else None
            row: Row = tuple(kept.user_attrs[_ROW])
            trial = Trial(kept.number, row) if said is None else read_trial(said)
            found.append(replace(trial, number=kept.number))
        return found

    def claim(self, trials: Sequence[Trial]) -> list[Trial]:
        """Claims rows; those that another worker has claimed before are left to it."""
        tokens = []
        for number, trial in enumerate(trials):
            token = {**vars(self.worker), "claim": f"{time.time_ns()}-{number}"}
            tokens.append(token)
            distributions = self._distributions()
            claim = self.optuna.trial.create_trial(
                state=self.optuna.trial.TrialState.RUNNING,
                params=dict(zip(self.space.names, trial.row, strict=True)),
                distributions=distributions,
                user_attrs={_ROW: list(trial.row), _WORKER: token, _SIGN: time.time()},
            )
            claim.datetime_complete = None
            claim.datetime_start = datetime.now()
            self.study.add_trial(claim)
        counted = {kept.user_attrs[_WORKER]["claim"]: kept for kept in self._counted()}
        mine = []
        for trial, token in zip(trials, tokens, strict=True):
            kept = counted.get(token["claim"])
            if kept is not None:
                worker = f"{self.worker.host}:{self.worker.process}:{self.worker.token}"
                mine.append(replace(trial, number=kept.number, worker=worker))
        self._fail([t for t in self._of_state("RUNNING") if self._is_lost(t, tokens, counted)])
        return mine

    def finish(self, trial: Trial) -> None:
        """Writes what was found; of a trial that was given up in between nothing is written."""
        loss = trial.loss if trial.known else float("inf")
        try:
            self.study._storage.set_trial_user_attr(
                self._identifier(trial.number), _FOUND, written_trial(trial)
            )
            self.study.tell(trial.number, loss)
        except (ValueError, self.optuna.exceptions.UpdateFinishedTrialError):
            return  # it counted as lost, and another worker has it

    def working(self, trials: Sequence[Trial]) -> AbstractContextManager[None]:
        """Returns a context in which the claims of this worker show that it lives."""

        def give() -> None:
            for trial in trials:
                try:
                    self.study._storage.set_trial_user_attr(
                        self._identifier(trial.number), _SIGN, time.time()
                    )
                except Exception:
                    continue

        return signs_of_life(give)

    def give_up(self, trials: Sequence[Trial]) -> None:
        """Fails the claims of this worker that were not finished."""
        numbers = {trial.number for trial in trials}
        self._fail([kept for kept in self._of_state("RUNNING") if kept.number in numbers])

    def close(self) -> None:
        """Gives back the connection."""
        remove = getattr(self.study._storage, "remove_session", None)
        if remove is not None:
            remove()

    def _distributions(self) -> dict[str, Any]:
        integers = self.optuna.distributions.IntDistribution
        pairs = zip(self.space.names, self.space.counts, strict=True)
        return {name: integers(0, count - 1) for name, count in pairs}

    def _counted(self) -> list[Any]:
        """Returns the trials of the study that count, in order; the dead fail first (rule 3)."""
        self._fail([trial for trial in self._of_state("RUNNING") if not self._alive(trial)])
        known: set[Row] = set()
        found: list[Any] = []
        for trial in sorted(self._of_state("RUNNING", "COMPLETE"), key=lambda t: t.number):
            row = tuple(trial.user_attrs.get(_ROW, ()))
            if row and row not in known and len(found) < self.most:
                known.add(row)
                found.append(trial)
        return found

    def _of_state(self, *names: str) -> list[Any]:
        states = tuple(getattr(self.optuna.trial.TrialState, name) for name in names)
        found: list[Any] = self.study.get_trials(deepcopy=False, states=states)
        return found

    def _is_lost(self, trial: Any, tokens: Sequence[Any], counted: Mapping[str, Any]) -> bool:
        claim = trial.user_attrs.get(_WORKER, {}).get("claim")
        return claim in {token["claim"] for token in tokens} and claim not in counted

    @staticmethod
    def _alive(trial: Any) -> bool:
        attrs = trial.user_attrs
        named = {k: v for k, v in attrs.get(_WORKER, {}).items() if k != "claim"}
        return bool(named) and WorkerName.read(named).alive(attrs.get(_SIGN, 0.0))

    def _fail(self, trials: Sequence[Any]) -> None:
        for trial in trials:
            try:
                self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
            except Exception:
                continue

    def _identifier(self, number: int) -> int:
        found: int = self.study._storage.get_trial_id_from_study_id_trial_number(
            self.study._study_id, number
        )
        return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _opened(optuna: Any, storage: str) -> Any:
    """Opens a journal file, or leaves a database to Optuna."""
    path = storage.removeprefix("journal:")
    if path == storage and "://" in storage:
        return storage
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal
    return optuna.storages.JournalStorage(journal.JournalFileBackend(path))
