"""Runs a search in its folder, and writes its front.

1. The search goes on from its ledger; a front of as many nets as there are is not made again.
2. The front is judged on fresh examples, drawn, and written with its nets.
"""

import time as clock
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import fx

from gfx.costs import parse_budget
from gfx.reports.front.front_page import write_front_page
from gfx.train.search.front import Front, FrontNet, pick
from gfx.train.search.front_file import FRONT, has_its_nets, net_of, read_front
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.ledger import FileLedger, Ledger
from gfx.train.search.optuna_ledger import OptunaLedger
from gfx.train.search.refit_judge import RefitJudge
from gfx.train.search.run_search import run_search
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import SearchSpace
from gfx.train.search.searched_front import write_searched_front
from gfx.train.search.supernet_judge import SupernetJudge
from gfx.train.search.trial import Trial

__all__ = ["FrontSearch", "SearchCall", "search_front"]

_LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class FrontSearch:
    """What a search has found, and where it is.

    `assumed` says what was not given. `judged` is how many nets were judged; `finished`, whether
    these are all that were asked for.
    """

    folder: Path
    front: Front
    judged: int
    finished: bool
    assumed: tuple[str, ...]

    def pick(self, limit: str) -> fx.GraphModule:
        """Opens the best net of the front within a limit, as "macs=2.67G", "params=0.5".

        Raises: InputError that says what there is.
        """
        return net_of(self.folder, pick(self.front, limit))

    def to_dict(self) -> dict[str, Any]:
        """Returns what was found as plain data; front.json of the folder has all of it."""
        return {
            "folder": str(self.folder),
            "finished": self.finished,
            "judged": self.judged,
            "assumed": list(self.assumed),
            "score": self.front.score,
            "said": self.front.sentence,
            "nets": [_row(net) for net in self.front.nets],
        }


def _row(net: FrontNet) -> dict[str, Any]:
    return {
        "macs": net.prices["exact"],
        "params": net.prices["params"],
        "value": net.value,
        "low": net.low,
        "high": net.high,
        "verdict": net.verdict,
        "file": net.file,
        "widths": dict(net.widths),
    }


@dataclass(frozen=True)
class SearchCall:
    """How a search runs."""

    fields: Search
    storage: str | None
    seed: int
    deadline: float | None  # of time.monotonic()
    said: tuple[str, ...]  # what was assumed

    @property
    def in_time(self) -> bool:
        """Whether the time is not over."""
        return self.deadline is None or clock.monotonic() <= self.deadline


def search_front(
    folder: Path,
    judge: SupernetJudge | RefitJudge,
    fresh: JudgedExamples,
    call: SearchCall,
    asked: Mapping[str, Any],
) -> FrontSearch:
    """Searches, and writes the front (rules 2 and 3)."""
    trials = _trials(folder, judge, call, asked)
    done = call.in_time
    if done and (folder / FRONT).is_file():
        known = read_front(folder)
        same = known.judged == len(trials) and known.finished
        if same and has_its_nets(folder, known):
            return FrontSearch(folder, known, len(trials), True, known.about)
    limits = parse_budget(call.fields.budget, judge.net.cost()) if call.fields.budget else ()
    front = write_searched_front(
        folder, trials, judge, fresh, limits, finished=done, about=call.said
    )
    write_front_page(folder)
    return FrontSearch(folder, front, len(trials), done, front.about)


def _trials(
    folder: Path, judge: SupernetJudge | RefitJudge, call: SearchCall, asked: Mapping[str, Any]
) -> list[Trial]:
    """Searches, from where the ledger stopped."""
    limits = parse_budget(call.fields.budget, judge.net.cost()) if call.fields.budget else ()
    space = SearchSpace(judge.net, limits)
    count = call.fields.evaluations
    ledger: Ledger
    if call.storage is None:
        ledger = FileLedger(folder / _LEDGER, asked, count)
    else:
        ledger = OptunaLedger(call.storage, asked, space, count)
    try:
        return run_search(space, judge, call.fields, ledger, seed=call.seed, deadline=call.deadline)
    finally:
        ledger.close()
