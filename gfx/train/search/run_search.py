"""Runs a search: proposes subnets, judges them, and writes down what was found.

1. As many distinct subnets are judged as were asked for, by however many workers; none twice.
2. In one process the search is a function of the seed: one that was stopped goes on as if it had
   not been.
3. With halving a batch is judged on few examples first; the best go on, on more. What did not go
   on keeps the value on the examples that it saw, moved by what the nets of its batch that saw all
   lost or gained from these examples to all, on average.
"""

import time as clock
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite

from gfx.progress import stage as report_stage
from gfx.progress import step as counted_step
from gfx.progress.deadline import out_of_time, stopped
from gfx.train.search.evolution_proposer import EvolutionProposer
from gfx.train.search.judge_protocol import Judge, Judgement
from gfx.train.search.ledger import Ledger
from gfx.train.search.optuna_proposers import NsgaProposer, TpeProposer
from gfx.train.search.proposer import Proposer, RandomProposer
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import Row, SearchSpace
from gfx.train.search.survey_proposer import SurveyProposer
from gfx.train.search.trial import Trial

__all__ = ["proposer_of", "run_search"]

_PROPOSERS: dict[str, type[Proposer]] = {
    "survey": SurveyProposer,
    "evolution": EvolutionProposer,
    "nsga2": NsgaProposer,
    "tpe": TpeProposer,
    "random": RandomProposer,
}
_PAUSE = 0.1  # seconds, while others judge


def proposer_of(space: SearchSpace, asked: Search, seed: int) -> Proposer:
    """Returns what proposes subnets.

    Raises: InputError if it needs Optuna, which is not installed.

    Example:
        >>> import gfx
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> proposer_of(SearchSpace(net), Search(by="random"), 0).propose([], 2)
        [(1, 1, 1, 0), (0, 0, 0, 0)]
    """
    return _PROPOSERS[asked.by](space, asked, seed)


def run_search(
    space: SearchSpace,
    judge: Judge,
    asked: Search,
    ledger: Ledger,
    *,
    seed: int = 0,
    deadline: float | None = None,
    told: Callable[[Sequence[Trial]], None] | None = None,
) -> list[Trial]:
    """Judges subnets until there are as many as were asked for; returns all that are judged.

    Args:
        space: of the subnets.
        judge: what judges them.
        asked: who proposes, and how many are judged.
        ledger: keeps them, and is shared by workers.
        seed: of the proposals.
        deadline: of `time.monotonic()`, after which nothing new is judged; `time_limit` ends it
            too.
        told: called after each batch with the trials so far.

    Raises: GfxError of the kind of what went wrong; what was judged stays in the ledger.
    """
    proposer = proposer_of(space, asked, seed)
    report_stage(f"searching by {asked.by}")
    examples = judge.examples if asked.images is None else min(asked.images, judge.examples)
    with counted_step("judging subnets", asked.evaluations) as counted:
        shown = 0
        while True:
            trials = ledger.trials()
            judged = [trial for trial in trials if trial.judgement is not None]
            counted.advance(len(judged) - shown, _best_said(judged, judge.score))
            shown = len(judged)
            if out_of_time() or (deadline is not None and clock.monotonic() > deadline):
                if len(judged) < asked.evaluations:
                    stopped(f"the search, after {len(judged)} of {asked.evaluations} subnets")
                break
            missing = asked.evaluations - len(trials)
            if missing <= 0 and len(judged) == len(trials):
                break
            rows = proposer.propose(trials, min(asked.batch, missing)) if missing > 0 else []
            if not rows:
                if len(judged) == len(trials):  # the space is used up
                    break
                clock.sleep(_PAUSE)  # others judge: what dies is claimed again
                continue
            mine = ledger.claim([_trial(space, row, judge, seed) for row in rows])
            if not mine:
                continue  # others were quicker
            try:
                with ledger.working(mine):
                    found = _judge(mine, judge, examples, asked.halving)
                ledger.finish(found)
            except BaseException:  # an interrupt too: others may go on with what is left
                ledger.give_up(mine)
                raise
            if told is not None:
                told([trial for trial in ledger.trials() if trial.judgement is not None])
    return [trial for trial in ledger.trials() if trial.judgement is not None]


def _trial(space: SearchSpace, row: Row, judge: Judge, seed: int) -> Trial:
    """Writes down a row, with its prices."""
    prices = {name: int(values[0]) for name, values in space.price([row]).items()}
    return Trial(
        -1,
        row,
        space.widths(row),
        prices,
        higher_is_better=judge.higher_is_better,
        allowed=bool(space.allowed([row])[0]),
        seed=seed,
    )


def _judge(mine: Sequence[Trial], judge: Judge, examples: int, halving: int) -> list[Trial]:
    """Judges claimed trials (rule 3)."""
    seen: dict[int, dict[int, Judgement]] = {
        trial.number: {} for trial in mine
    }  # by trial and rung
    running = list(mine)
    for rung in _rungs(examples, halving, len(mine)):
        found = judge.judge([trial.widths for trial in running], rung)
        running = [replace(t, judgement=said) for t, said in zip(running, found, strict=True)]
        for trial, said in zip(running, found, strict=True):
            seen[trial.number][rung] = said
        if rung < examples:
            running = sorted(running, key=_order)[: max(1, len(running) // halving)]
    whole = [v for v in seen.values() if examples in v and isfinite(v[examples].value)]
    made = []
    for trial in mine:
        rung, said = list(seen[trial.number].items())[-1]
        moved = [values[examples].value - values[rung].value for values in whole]
        if rung < examples and moved:
            said = replace(said, value=said.value + sum(moved) / len(moved))
        made.append(replace(trial, judgement=said))
    return made


def _order(trial: Trial) -> tuple[float, int]:
    """Sorts the best first; what is no number comes last."""
    return (trial.loss if trial.known else float("inf")), trial.number


def _rungs(examples: int, halving: int, nets: int) -> list[int]:
    """Lists on how many examples the nets of a batch are judged, the fewest first.

    Example:
        >>> _rungs(64, 2, 8), _rungs(64, 0, 8), _rungs(64, 4, 1)
        ([8, 16, 32, 64], [64], [64])
    """
    found = [examples]
    while halving and nets > 1 and found[0] // halving >= 4:
        found.insert(0, found[0] // halving)
        nets //= halving
    return found


def _best_said(judged: Sequence[Trial], score: str) -> str:
    kept = [trial for trial in judged if trial.known and trial.allowed]
    if not kept:
        return "judging subnets"
    best = min(kept, key=lambda trial: trial.loss)
    said: Judgement | None = best.judgement
    assert said is not None
    return f"judging subnets · best {score} {said.value:.4g}"
