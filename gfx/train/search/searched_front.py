"""Makes the front of what a search has judged, and writes it with its nets and their pictures."""

from collections.abc import Sequence
from pathlib import Path

from gfx.costs import Budget
from gfx.costs.cost import CONVENTIONS
from gfx.progress import stage
from gfx.train.search.front import Front, SearchedNet, make_front
from gfx.train.search.front_file import write_front
from gfx.train.search.front_pictures import front_pictures
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.refit_judge import RefitJudge
from gfx.train.search.supernet_judge import SupernetJudge
from gfx.train.search.trial import Trial

__all__ = ["write_searched_front"]


def write_searched_front(
    folder: Path,
    trials: Sequence[Trial],
    judge: SupernetJudge | RefitJudge,
    fresh: JudgedExamples,
    limits: Sequence[Budget],
    *,
    finished: bool = True,
    about: Sequence[str] = (),
) -> Front:
    """Judges the best nets again on fresh examples, and writes the front into a folder.

    Args:
        folder: made if it is not there.
        trials: all that were judged; those beyond the budgets have no part in the front.
        judge: who judged them.
        fresh: the examples that they are judged on again.
        limits: the budgets; the first says which cost the front is of.
        finished: whether the search has judged as many as were asked for.
        about: what was assumed, in sentences.

    Raises: InputError if no net keeps the budgets; ArchiveError if something cannot be written.
    """
    stage("judging the front again")
    net, again = judge.net, judge.anew(fresh)
    found = [
        SearchedNet(t.widths, t.prices, t.judgement.value, t.judgement.examples)
        for t in trials
        if t.allowed and t.judgement is not None
    ]
    whole = {name: int(value[0]) for name, value in net.price([net.largest()]).items()}
    front = make_front(
        found,
        again,
        SearchedNet(net.largest(), whole, 0.0),
        measure=_measure(limits),
        searched_examples=judge.examples,
        judged=len(trials),
        finished=finished,
        about=about,
    )
    stage("writing the front")
    widths = [each.widths for each in front.nets]
    pictures = front_pictures(again, widths, net.largest())
    return write_front(folder, front, [judge.deliver(each) for each in widths], pictures)


def _measure(limits: Sequence[Budget]) -> str:
    """Returns the cost of the front, as prices are named: that of the first budget."""
    if not limits:
        return "exact"
    first = limits[0]
    return CONVENTIONS[first.convention] if first.measure == "macs" else first.measure
