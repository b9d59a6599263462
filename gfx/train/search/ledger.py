"""Defines the ledger of a search: who judges which subnet, and what was found.

1. A worker claims rows before it judges them. Of two claims of a row the first counts.
2. Claims of a worker that died count no more, and their rows may be claimed again.
3. A ledger is of one search: what it searches, by what, within what, from which seed.
4. A file holds a batch a line, so that a search that goes on proposes what it would have proposed.
5. Each line is sealed by a hash of all up to it. From the first that does not fit on, as one that a
   power cut left or a disk spoilt, nets are judged again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from gfx.errors import ArchiveError, InputError
from gfx.io.guards import printable, reading_file
from gfx.io.regular_files import read_regular
from gfx.train.runs.sealed_files import seal
from gfx.train.search.judge_protocol import Judge, Judgement
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import Row, SearchSpace
from gfx.train.search.trial import Trial

__all__ = [
    "FileLedger",
    "Ledger",
    "MemoryLedger",
    "differences",
    "read_trial",
    "search_identity",
    "written_trial",
]

_BYTES = 2**30


class Ledger(Protocol):
    """What a search asks of its ledger."""

    def trials(self) -> list[Trial]:
        """Returns the trials that count, in the order of their claims."""

    def claim(self, trials: Sequence[Trial]) -> list[Trial]:
        """Claims rows; returns those that are this worker's to judge.

        Claims beyond how many trials the search has do not count.
        """

    def working(self, trials: Sequence[Trial]) -> AbstractContextManager[None]:
        """Returns a context in which claims show that their worker lives."""

    def finish(self, trials: Sequence[Trial]) -> None:
        """Writes what was found of a batch of this worker, in the order of its claims."""

    def give_up(self, trials: Sequence[Trial]) -> None:
        """Lets others claim the rows of trials that were not finished."""

    def close(self) -> None:
        """Gives back what is held."""


class MemoryLedger:
    """Keeps the trials of one process in memory; `most` is how many there will be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._trials: dict[int, Trial] = {}

    def trials(self) -> list[Trial]:
        """Returns all trials."""
        return list(self._trials.values())

    def claim(self, trials: Sequence[Trial]) -> list[Trial]:
        """Claims rows that are not claimed yet."""
        known = {trial.row for trial in self._trials.values()}
        made = []
        for trial in trials:
            if trial.row in known or len(self._trials) >= self.most:
                continue
            known.add(trial.row)
            claimed = replace(trial, number=len(self._trials))
            self._trials[claimed.number] = claimed
            made.append(claimed)
        return made

    def working(self, trials: Sequence[Trial]) -> AbstractContextManager[None]:
        """Nobody else asks."""
        return nullcontext()

    def finish(self, trials: Sequence[Trial]) -> None:
        """Keeps what was found."""
        self._trials |= {trial.number: trial for trial in trials}

    def give_up(self, trials: Sequence[Trial]) -> None:
        """Forgets claims that were not finished."""
        for trial in trials:
            held = self._trials.get(trial.number)
            if held is not None and held.judgement is None:
                del self._trials[trial.number]

    def close(self) -> None:
        """Holds nothing."""


class FileLedger(MemoryLedger):
    """Writes each batch as a line of a file, when it is judged; one process writes it (rule 5).

    Args:
        path: of the file.
        identity: what the search is (rule 3).
        most: how many trials the search has in all.

    Raises: InputError if the file is of another search; ArchiveError if it is none.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], most: int) -> None:
        super().__init__(most)
        self.path = path
        known = json.loads(json.dumps(identity))
        self._seal = ""  # of the last line
        begun = self._read(known) if path.exists() else 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise self._unwritable(error) from error
        self._file.truncate(begun)
        self._file.seek(begun)
        if not begun:
            self._write({"search": known})

    def _read(self, identity: Any) -> int:
        """Reads the trials; returns where what fits of the file ends."""
        again = "give another folder, or delete the file"
        with reading_file(self.path, again):
            data = read_regular(self.path, _BYTES, again)
            first, ended, rest = data.partition(b"\n")
            if not ended:  # nothing was judged
                return 0
            held = json.loads(first)
            if not isinstance(held, dict) or "search" not in held:
                raise ArchiveError(f"{printable(self.path)} is no ledger of a search; {again}")
            differences(held["search"], identity, printable(self.path))
            if not self._fits(first):
                raise ArchiveError(
                    f"{printable(self.path)}: its first line is not what a search wrote; {again}"
                )
            begun = len(first) + 1
            for line in rest.splitlines(keepends=True):
                if not line.endswith(b"\n") or not self._fits(line[:-1]):
                    break
                begun += len(line)
                for judged in json.loads(line)["judged"]:
                    number = len(self._trials)
                    self._trials[number] = replace(read_trial(judged), number=number)
        return begun

    def _fits(self, line: bytes) -> bool:
        """Whether a line is what was written after the last; that one it becomes."""
        body, ending = line[:-_SEALED], line[-_SEALED:]
        seal = _sealed(self._seal, body)
        fits = ending == _ending(seal)
        self._seal = seal if fits else self._seal
        return fits

    def finish(self, trials: Sequence[Trial]) -> None:
        """Writes what was found, and waits until it is on the disk."""
        super().finish(trials)
        self._write({"judged": [written_trial(trial) for trial in trials]})

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, value: Any) -> None:
        body = json.dumps(value).encode()[:-1]
        self._seal = _sealed(self._seal, body)
        try:
            self._file.write(body + _ending(self._seal) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ArchiveError:
        return ArchiveError(
            f"{printable(self.path)} cannot be written: {error.strerror}; what was judged before "
            "stays, and the same command goes on from it"
        )


def _sealed(before: str, body: bytes) -> str:
    return seal(before, body)[:16]


def _ending(seal: str) -> bytes:
    """Returns how a line ends."""
    return f', "seal": "{seal}"}}'.encode()


_SEALED = len(_ending("0" * 16))


def search_identity(
    space: SearchSpace, judge: Judge, asked: Search, seed: int, **more: Any
) -> dict[str, Any]:
    """Says what a search is (rule 3): another has other nets, or other values of the same nets.

    How many are judged is no part of it: a search may be made longer, and what is picked neither.

    Args:
        space: what is searched.
        judge: by whom.
        asked: how.
        seed: of the proposals.
        more: what else decides it, such as the fingerprint of the supernet and the data.
    """
    how = asked.spec()
    for name in ("evaluations", "pick", "score", "budget"):
        del how[name]
    return {
        **more,
        "score": judge.score,
        "examples": judge.examples,
        "budgets": {budget.name: budget.limit for budget in space.budgets},
        "widths": {name: list(values) for name, values in space.net.choices.items()},
        **how,
        "seed": seed,
    }


def written_trial(trial: Trial) -> dict[str, Any]:
    """Writes a trial that is judged, as plain data."""
    said = trial.judgement
    assert said is not None
    return {
        **{k: v for k, v in vars(trial).items() if k not in ("judgement", "number")},
        "row": list(trial.row),
        "widths": dict(trial.widths),
        "prices": {name: int(value) for name, value in trial.prices.items()},
        "judgement": {**vars(said), "each": list(said.each), "pseudo": list(said.pseudo)},
    }


def read_trial(data: Any) -> Trial:
    """Reads a trial back.

    Raises: KeyError, TypeError or ValueError if it is none.
    """
    found = dict(data)
    held = dict(found.pop("judgement"))
    said = Judgement(**{**held, "each": tuple(held["each"]), "pseudo": tuple(held["pseudo"])})
    row: Row = tuple(int(n) for n in found.pop("row"))
    return Trial(number=0, row=row, judgement=said, **found)


def differences(known: Any, asked: Mapping[str, Any], where: str) -> None:
    """Refuses a ledger of another search.

    Raises: InputError that shows what differs.

    Example:
        >>> differences({"seed": 0}, {"seed": 0}, "search.jsonl")
    """
    held = known if isinstance(known, dict) else {}
    names = [name for name in {**held, **asked} if held.get(name) != asked.get(name)]
    if names:
        pairs = "; ".join(
            f"{name}: there {_short(held.get(name))}, here {_short(asked.get(name))}"
            for name in names[:6]
        )
        raise InputError(
            f"{where} holds another search: {pairs}; give another storage, or the same search"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else text[:117] + "..."
