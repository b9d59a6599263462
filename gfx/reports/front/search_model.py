"""Searches for a front of smaller generators: `gfx.search("net.gfx", data="photos")`.

1. A supernet is judged as it is: each net is a part of its weights. Any other generator is narrowed
   and its layers refitted, without training; its channels are sorted first.
2. Prices are exact and cost nothing; nets are judged on examples, the front again on fresh ones.
3. The same call with the same folder goes on where it stopped, or gives back what is finished.
"""

import os
import tempfile
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import fx, nn

from gfx.costs import Budget, parse_budget
from gfx.costs.cost import CONVENTIONS
from gfx.errors import InputError, require_seed
from gfx.io.archive import ModelPath, as_module
from gfx.io.guards import printable
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.model_kinds import require_module
from gfx.ir.random_state import keep_random_state
from gfx.progress import Progress, reported, stage
from gfx.reports.front.front_page import write_front_page
from gfx.reports.front.opened_search import open_search, said_of_score
from gfx.train.runs.run_identity import fingerprint
from gfx.train.search.front import Front, FrontNet, SearchedNet, make_front, pick
from gfx.train.search.front_file import FRONT, net_of, read_front, write_front
from gfx.train.search.front_pictures import front_pictures
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.ledger import FileLedger, Ledger
from gfx.train.search.optuna_ledger import OptunaLedger
from gfx.train.search.refit_judge import RefitJudge
from gfx.train.search.run_search import run_search
from gfx.train.search.search_fields import Search, read_search
from gfx.train.search.search_folder import claimed_folder, is_search_folder
from gfx.train.search.search_space import SearchSpace
from gfx.train.search.supernet_judge import SupernetJudge
from gfx.train.search.trial import Trial
from gfx.train.supernet import Supernet

__all__ = ["FrontSearch", "search"]

LEDGER = "ledger.jsonl"
EVALUATIONS = {"supernet": 200, "refit": 40}  # where none are asked for


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


@reported
@in_neutral_modes
def search(
    model: nn.Module | Supernet | ModelPath,
    *,
    data: Any = None,
    by: str = "survey",
    evaluations: int | None = None,
    score: str | None = None,
    budget: Mapping[str, Any] | None = None,
    storage: str | None = None,
    run: str | os.PathLike[str] | None = None,
    time: float | None = None,
    seed: int = 0,
    examples: int = 64,
    widths: Any = None,
    order: Any = "reconstruction",
    refit: Mapping[str, Any] | None = None,
    task: str | None = None,
    size: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    range: Any = None,
    val: float | str | os.PathLike[str] | None = None,
    attributes: Sequence[str] | None = None,
    call: Any = None,
    fid_weights: str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    progress: Progress = False,
) -> FrontSearch:
    """Searches for the nets of a generator that none is both cheaper and better than.

    Args:
        model: a supernet, its file, or any generator that is to be narrowed without training; the
            folder of a search that is finished gives back what it found.
        data: a folder, a tensor or Dataset of images, a pair of these, or a task of
            `gfx.train.tasks`; None draws the latents of a generator that takes some.
        by: how nets are proposed: survey, evolution, nsga2, tpe or random.
        evaluations: how many nets are judged; None: 200 of a supernet, 40 that are refitted.
        score: a metric of `gfx.metrics`, such as "fd[efficientnet_lite0]"; None: l1, against the
            ground truth, or what the largest net makes.
        budget: no net costs more, as {"macs": 0.3}; the first measure is the cost of the front.
        storage: what workers share, as a URL that Optuna takes; None: a file in the folder.
        run: the folder of the search; None is a new one among the temporary files.
        time: seconds after which it ends, with the front of what was judged; to be taken up again.
        seed: of what is proposed, and of which examples are searched on.
        examples: how many are searched on.
        widths: of a generator that is no supernet, as in `gfx.supernet`.
        order: by which importance its channels are sorted.
        refit: fields of the pass refit, for its layers.
        task: paired, unpaired, latent, class, labels, super_resolution or self; None: by model and
            data.
        size: what the shorter side of images is scaled to, in pixels.
        crop: what images are cut to, in pixels.
        range: what black and white of images become, such as (0, 1).
        val: the share of the examples that the front is judged on, or a folder of others.
        attributes: which columns of a table of attributes the generator takes.
        call: runs a generator on a batch, `call(generator, batch)`, where its arguments are odd.
        fid_weights: the file with the weights of Inception, for fd[inception].
        example_inputs: for the generator, where they cannot be inferred.
        progress: whether to show what is done, or a function that is told.

    Raises: GfxError of the kind of what went wrong; what was judged stays in the folder.

    Example:
        >>> import gfx
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> found = gfx.search(net, by="random", evaluations=8, examples=8)
        >>> found.finished, found.front.score
        (True, 'l1')
    """
    require_seed(seed, InputError)
    if isinstance(model, str | os.PathLike) and Path(model).is_dir():
        return _finished(Path(model))
    module = as_module(model)
    require_module(module)
    how = {
        "task": task, "size": size, "crop": crop, "range": range, "val": val,
        "attributes": attributes,
    }  # fmt: skip
    with keep_random_state([], python=True):
        opened = open_search(
            module, data, example_inputs, widths, order, examples, seed, {**how, "call": call}
        )
        asked = {
            "model": fingerprint(module), "kind": opened.kind, "task": opened.task.name,
            "examples": opened.task.length, "by": by, "score": score or "l1",
            "budget": budget, "seed": seed, "searched on": opened.split.searched.count,
            "judged again on": opened.split.fresh.count, "widths": opened.net.widths,
            "order": order if opened.kind == "refit" else None,
            "refit": dict(refit or {}) if opened.kind == "refit" else None, **how,
        }  # fmt: skip
        folder = Path(tempfile.mkdtemp(prefix="gfx-search-")) if run is None else Path(run)
        weights = None if fid_weights is None else os.fspath(fid_weights)
        judge: SupernetJudge | RefitJudge
        if opened.kind == "supernet":
            judge = SupernetJudge(
                opened.net, opened.split.searched, score or "l1", fid_weights=weights
            )
        else:
            assert opened.split.fit is not None
            judge = RefitJudge(
                opened.net, opened.split.searched, opened.split.fit.batches, score or "l1",
                fid_weights=weights, refit=refit, seed=seed,
            )  # fmt: skip
        fields = read_search(
            {
                "by": by,
                "evaluations": EVALUATIONS[opened.kind] if evaluations is None else evaluations,
                "score": score or "l1",
                "budget": dict(budget or {}),
                "batch": _batch(by, opened.kind),
            },
            "gfx.search",
        )
        said = opened.about
        if evaluations is None:
            said = (*said, f"at most {fields.evaluations} nets are judged")
        if score is None:
            said = (*said, said_of_score(opened.split))
        deadline = None if time is None else clock.monotonic() + time
        call_ = _Call(fields, storage, seed, deadline, said)
        with claimed_folder(folder, asked) as path:
            return _searched(path, judge, opened.split.fresh, call_, asked)


def _batch(by: str, kind: str) -> int:
    """Returns how many nets are proposed at a time: many share more, few are written sooner."""
    if kind == "refit":
        return 2
    return {"evolution": 100, "random": 64}.get(by, 8)


@dataclass(frozen=True)
class _Call:
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


def _searched(
    folder: Path,
    judge: SupernetJudge | RefitJudge,
    fresh: JudgedExamples,
    call: _Call,
    asked: Mapping[str, Any],
) -> FrontSearch:
    """Searches, and writes the front (rules 2 and 3)."""
    trials = _trials(folder, judge, call, asked)
    done = call.in_time
    found = [
        SearchedNet(t.widths, t.prices, t.judgement.value, t.judgement.examples)
        for t in trials
        if t.allowed and t.judgement is not None
    ]
    if done and (folder / FRONT).is_file():
        known = read_front(folder)
        if known.judged == len(trials):
            return FrontSearch(folder, known, len(trials), True, known.about)
    stage("judging the front again")
    net, again = judge.net, judge.anew(fresh)
    limits = parse_budget(call.fields.budget, net.cost()) if call.fields.budget else ()
    prices = {name: int(value[0]) for name, value in net.price([net.largest()]).items()}
    front = make_front(
        found,
        again,
        SearchedNet(net.largest(), prices, 0.0),
        measure=_measure(limits),
        searched_examples=judge.examples,
        judged=len(trials),
        about=call.said,
    )
    stage("writing the front")
    widths = [each.widths for each in front.nets]
    pictures = front_pictures(again, widths, net.largest())
    front = write_front(folder, front, [judge.deliver(each) for each in widths], pictures)
    write_front_page(folder)
    return FrontSearch(folder, front, len(trials), done, front.about)


def _measure(limits: Sequence[Budget]) -> str:
    """Returns the cost of the front, as prices are named: that of the first budget."""
    if not limits:
        return "exact"
    first = limits[0]
    return CONVENTIONS[first.convention] if first.measure == "macs" else first.measure


def _trials(
    folder: Path, judge: SupernetJudge | RefitJudge, call: "_Call", asked: Mapping[str, Any]
) -> list[Trial]:
    """Searches, from where the ledger stopped."""
    limits = parse_budget(call.fields.budget, judge.net.cost()) if call.fields.budget else ()
    space = SearchSpace(judge.net, limits)
    count = call.fields.evaluations
    ledger: Ledger
    if call.storage is None:
        ledger = FileLedger(folder / LEDGER, asked, count)
    else:
        ledger = OptunaLedger(call.storage, asked, space, count)
    try:
        return run_search(space, judge, call.fields, ledger, seed=call.seed, deadline=call.deadline)
    finally:
        ledger.close()


def _finished(folder: Path) -> FrontSearch:
    """Gives back what a search has found.

    Raises: InputError if it is not finished, or the folder is of something else.
    """
    said = printable(folder)
    if is_search_folder(folder):
        if not (folder / "front.json").is_file():
            raise InputError(
                f"{said}: the search is not finished; give the command that began it, and it goes "
                "on"
            )
        front = read_front(folder)
        return FrontSearch(folder, front, front.judged, True, front.about)
    if (folder / "recipe.yaml").is_file():
        nets = sorted(path.name for path in folder.glob("[0-9][0-9]-*.gfx"))
        named = next((name for name in nets if "supernet" in name), nets[-1] if nets else None)
        what = f"name its net, {printable(folder / named)}" if named else "it has no net yet"
        raise InputError(
            f"{said} is a run of gfx compress, which searches in its stages itself; {what}, and "
            "give a folder of its own for the search"
        )
    raise InputError(
        f"{said} is a folder and holds no search.json: it is no search; name a .gfx file, "
        "zoo:NAME, or the folder that --run named"
    )
