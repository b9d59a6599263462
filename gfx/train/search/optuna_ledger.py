"""Keeps a search in an Optuna study, which many workers share: a journal file, or a database.

1. A claim is a trial of the study that runs, written at once with its row and its worker.
2. Of the trials that have not failed, in the order of their numbers, those with a new row count, up
   to how many the search has: every worker finds the same ones. A claim that does not count fails.
3. A trial whose worker has died fails (`living_workers.py`), unless its value was written already.
4. What was found of a trial is sealed by its hash: one that was damaged or written to is refused.
"""

import json
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from gfx.errors import GfxError, InputError
from gfx.io.guards import printable
from gfx.io.plain_data import canonical
from gfx.train.runs.sealed_files import seal
from gfx.train.search.journal_storage import open_storage
from gfx.train.search.ledger import differences, read_trial, written_trial
from gfx.train.search.living_workers import Watch, WorkerName, signs_of_life
from gfx.train.search.optuna_proposers import optuna_module
from gfx.train.search.search_space import Row, SearchSpace
from gfx.train.search.trial import Trial

__all__ = ["OptunaLedger", "check_storage", "without_secret"]

_STUDY = "gfx"
_SEARCH = "gfx:search"
_ROW, _WORKER, _FOUND, _SIGN = "gfx:row", "gfx:worker", "gfx:trial", "gfx:sign"
_ADVICE = "give journal:FILE, or a database that this machine reaches, as sqlite:///search.db"
_PACKAGES = {  # by the module that SQLAlchemy imports
    "MySQLdb": "mysqlclient (or name another driver: mysql+pymysql://...)",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
}
_SECRET = re.compile(r"(?<=:)[^:/@]+(?=@)")  # the password of a URL
_OURS = (GfxError, AssertionError, AttributeError, KeyError, TypeError)  # no fault of a storage


def without_secret(storage: str) -> str:
    """Returns a storage as it is shown, without its password.

    Example:
        >>> without_secret("mysql://me:word@host/nets")
        'mysql://me:***@host/nets'
    """
    return printable(_SECRET.sub("***", storage))


def check_storage(storage: str) -> None:
    """Opens a storage, and closes it again: whether it can be reached is known before long work.

    Raises: InputError if it cannot, or if Optuna or the database's driver is not installed.
    """
    optuna = optuna_module("a storage that workers share")
    shown = without_secret(storage)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = optuna.storages.get_storage(open_storage(optuna, storage))
            held.get_all_studies()
            held.remove_session()
    except GfxError:
        raise
    except Exception as error:
        _refuse_without_driver(shown, error)
        what = f"{type(error).__name__}: {_first_line(error)}"
        raise InputError(f"the storage {shown} cannot be reached: {what}; {_ADVICE}") from error


def _refuse_without_driver(storage: str, error: BaseException) -> None:
    """Says which driver of a database is missing, or that there is none, if that is the error.

    Raises: InputError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            package = _PACKAGES.get(cause.name, cause.name)
            raise InputError(
                f"the storage {storage} is a database whose driver is not installed: pip install "
                f"{package}; {_ADVICE}"
            ) from error
        if type(cause).__name__ == "NoSuchModuleError" or "RedisStorage" in str(cause):
            raise InputError(
                f"the storage {storage} is of a kind that Optuna does not take; give journal:FILE, "
                "or a database, as sqlite:///search.db, postgresql://… or mysql://…"
            ) from error
        cause = cause.__cause__ or cause.__context__


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
        self.space, self.storage, self.most = space, without_secret(storage), most
        self.worker, self._watch = WorkerName.own(), Watch()
        self._identity = json.loads(json.dumps(identity))
        with self._reached(f"cannot be reached: {{}}; {_ADVICE}", ours=(GfxError,)):
            self.study = self.optuna.create_study(
                study_name=_STUDY,
                storage=open_storage(self.optuna, storage),
                directions=["minimize"],
                load_if_exists=True,
            )
            if not self.study.user_attrs and not self.study.get_trials(deepcopy=False):
                self.study.set_user_attr(_SEARCH, self._identity)
            self._refuse_another()

    def trials(self) -> list[Trial]:
        """Returns the trials that count (rule 2), after those of dead workers have failed."""
        found = []
        with self._reached():
            for kept in self._counted():
                trial = self._found(kept) if kept.state.is_finished() else None
                row: Row = tuple(kept.user_attrs[_ROW])
                found.append(trial or Trial(kept.number, row))
        return found

    def claim(self, trials: Sequence[Trial]) -> list[Trial]:
        """Claims rows; those that another worker has claimed before are left to it."""
        with self._reached():
            # of two that begin at once with other searches one has written over the other's
            self._refuse_another()
            claims = {f"{self.worker.token}-{time.time_ns()}-{i}": t for i, t in enumerate(trials)}
            for name, trial in claims.items():
                self._add(name, trial)
            counted = {kept.user_attrs[_WORKER]["claim"]: kept for kept in self._counted()}
            running = self._of_state("RUNNING")
            lost = claims.keys() - counted.keys()
            self._fail([t for t in running if t.user_attrs.get(_WORKER, {}).get("claim") in lost])
        worker = f"{self.worker.host}:{self.worker.process}:{self.worker.token}"
        return [
            replace(trial, number=counted[name].number, worker=worker)
            for name, trial in claims.items()
            if name in counted
        ]

    def finish(self, trials: Sequence[Trial]) -> None:
        """Writes what was found; of trials that were given up in between nothing is written."""
        with self._reached():
            for trial in trials:
                try:
                    self._note(trial.number, _FOUND, _sealed(written_trial(trial)))
                    self.study.tell(trial.number, _told(trial))
                except (ValueError, RuntimeError):
                    if self._running(trial.number):
                        raise
                    continue  # it counted as lost, and another worker has it

    def working(self, trials: Sequence[Trial]) -> AbstractContextManager[None]:
        """Returns a context in which the claims of this worker show that it lives."""

        def give() -> None:
            for trial in trials:
                try:
                    self._note(trial.number, _SIGN, time.time())
                # the next sign may come through; if none does, `finish` says so
                except (self.optuna.exceptions.OptunaError, OSError, ValueError):
                    continue

        return signs_of_life(give)

    def give_up(self, trials: Sequence[Trial]) -> None:
        """Fails the claims of this worker that were not finished."""
        numbers = {trial.number for trial in trials}
        with self._reached():
            self._fail([kept for kept in self._of_state("RUNNING") if kept.number in numbers])

    def close(self) -> None:
        """Gives back the connection."""
        remove = getattr(self.study._storage, "remove_session", None)
        if remove is not None:
            remove()

    @contextmanager
    def _reached(
        self,
        said: str = "is reached no more: {}; what was judged stays there, and the same command "
        "goes on from it",
        ours: tuple[type[Exception], ...] = _OURS,
    ) -> Iterator[None]:
        """Says that the storage failed: databases and drivers have errors of many kinds.

        Raises: InputError.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's own, of what is experimental
                yield
        except ours:
            raise
        except Exception as error:
            _refuse_without_driver(self.storage, error)
            what = f"{type(error).__name__}: {_first_line(error)}"
            raise InputError(f"the storage {self.storage} {said.format(what)}") from error

    def _refuse_another(self) -> None:
        held = self.study.user_attrs.get(_SEARCH)
        differences(held, self._identity, f"the storage {self.storage}")

    def _add(self, claim: str, trial: Trial) -> None:
        """Writes a claim."""
        integers = self.optuna.distributions.IntDistribution
        pairs = list(zip(self.space.names, self.space.counts, strict=True))
        made = self.optuna.trial.create_trial(
            state=self.optuna.trial.TrialState.RUNNING,
            params=dict(zip(self.space.names, trial.row, strict=True)),
            distributions={name: integers(0, count - 1) for name, count in pairs},
            user_attrs={
                _ROW: list(trial.row),
                _WORKER: {**vars(self.worker), "claim": claim},
                _SIGN: time.time(),
            },
        )
        made.datetime_complete = None
        made.datetime_start = datetime.now()
        self.study.add_trial(made)

    def _counted(self) -> list[Any]:
        """Returns the trials of the study that count, in order; the dead fail first (rule 3)."""
        dead = [trial for trial in self._of_state("RUNNING") if not self._alive(trial)]
        self._fail([trial for trial in dead if _FOUND not in trial.user_attrs])
        for trial in dead:
            if _FOUND in trial.user_attrs:
                self._tell(trial, _told(self._found(trial)))
        known: set[Row] = set()
        found: list[Any] = []
        for trial in sorted(self._of_state("RUNNING", "COMPLETE"), key=lambda t: t.number):
            row = tuple(trial.user_attrs.get(_ROW, ()))
            if row and row not in known and len(found) < self.most:
                known.add(row)
                found.append(trial)
        return found

    def _found(self, kept: Any) -> Trial | None:
        """Returns what was found of a trial; None if nothing is written (rule 4).

        Raises: InputError if it is not what was written.
        """
        if (held := kept.user_attrs.get(_FOUND)) is None:
            return None
        try:
            said = {name: value for name, value in held.items() if name != "seal"}
            if held != _sealed(said) or said["row"] != kept.user_attrs[_ROW]:
                raise ValueError(held)
            return replace(read_trial(said), number=kept.number)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the storage {self.storage}: net {kept.number} is not as it was written: it was "
                "damaged, or written to; give another storage, and the search begins anew"
            ) from error

    def _of_state(self, *names: str) -> list[Any]:
        states = tuple(getattr(self.optuna.trial.TrialState, name) for name in names)
        found: list[Any] = self.study.get_trials(deepcopy=False, states=states)
        return found

    def _running(self, number: int) -> bool:
        return any(trial.number == number for trial in self._of_state("RUNNING"))

    def _alive(self, trial: Any) -> bool:
        attrs = trial.user_attrs
        named = dict(attrs.get(_WORKER, {}))
        claim = named.pop("claim", "")
        return bool(named) and self._watch.alive(WorkerName(**named), claim, attrs.get(_SIGN, 0.0))

    def _fail(self, trials: Sequence[Any]) -> None:
        for trial in trials:
            self._tell(trial, None)

    def _tell(self, trial: Any, loss: float | None) -> None:
        """Ends a trial; None: it failed. One that has ended in between stays as it is."""
        state = getattr(self.optuna.trial.TrialState, "FAIL" if loss is None else "COMPLETE")
        try:
            self.study.tell(trial.number, loss, state=state)
        except (ValueError, RuntimeError):
            if self._running(trial.number):
                raise

    def _note(self, number: int, key: str, value: Any) -> None:
        """Writes a note of a trial that runs."""
        storage = self.study._storage
        identifier = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        storage.set_trial_user_attr(identifier, key, value)


def _told(trial: Trial | None) -> float:
    """Returns the value of a trial for Optuna, which takes no NaN."""
    return trial.loss if trial is not None and trial.known else float("inf")


def _sealed(said: Mapping[str, Any]) -> dict[str, Any]:
    return {**said, "seal": seal("", canonical(said))[:16]}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
