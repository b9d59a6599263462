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
from pathlib import Path
from typing import Any

from torch import nn

from gfx.errors import InputError, require_seed
from gfx.io.archive import ModelPath, as_module
from gfx.io.guards import printable
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.model_kinds import require_module
from gfx.ir.random_state import keep_random_state
from gfx.progress import Progress, reported
from gfx.reports.front.front_page import write_front_page
from gfx.reports.front.front_search import FrontSearch, SearchCall, search_front
from gfx.reports.front.opened_search import open_search, said_of_score
from gfx.train.runs.run_identity import fingerprint
from gfx.train.runs.shared_search import data_of_run, joined_search
from gfx.train.search.front_file import FRONT, read_front
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.refit_judge import REFIT, RefitJudge
from gfx.train.search.search_fields import read_search
from gfx.train.search.search_folder import claimed_folder, is_search_folder
from gfx.train.search.searched_front import write_searched_front
from gfx.train.search.supernet_judge import SupernetJudge
from gfx.train.supernet import Supernet

__all__ = ["search"]

EVALUATIONS = {"supernet": 200, "refit": 40}  # where none are asked for


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
            folder of a search that is finished gives back what it found. With a storage, the folder
            of a run of `gfx.compress` with that storage: nets of its search are judged here too.
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
        path = Path(model)
        if storage is not None and (path / "recipe.yaml").is_file():
            asked = {"evaluations": evaluations, "score": score, "budget": budget}
            _refuse_given(path, [name for name, value in asked.items() if value is not None])
            how = {"call": call, "fid_weights": fid_weights and os.fspath(fid_weights)}
            return _joined(path, storage, data, run, time, **how)
        given = {
            "data": data, "evaluations": evaluations, "score": score, "budget": budget,
            "storage": storage, "run": run, "time": time,
        }  # fmt: skip
        return _finished(Path(model), [name for name, value in given.items() if value is not None])
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
            "refit": {**REFIT, **(refit or {})} if opened.kind == "refit" else None, **how,
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
        call_ = SearchCall(fields, storage, seed, deadline, said)
        with claimed_folder(folder, asked) as path:
            return search_front(path, judge, opened.split.fresh, call_, asked)


def _batch(by: str, kind: str) -> int:
    """Returns how many nets are proposed at a time: many share more, few are written sooner."""
    if kind == "refit":
        return 2
    return {"evolution": 32, "random": 32}.get(by, 8)


def _refuse_given(path: Path, names: Sequence[str]) -> None:
    if names:
        raise InputError(
            f"{printable(path)} is a run of gfx compress, whose recipe says how it searches; "
            f"leave out {', '.join(names)}"
        )


def _joined(
    path: Path, storage: str, data: Any, run: Any, time: float | None, **how: Any
) -> FrontSearch:
    """Judges nets of the search of a run of gfx compress, beside it.

    The front that is made of them is this worker's; the run makes its own.
    """
    with keep_random_state([], python=True):
        if data is None:
            data = data_of_run(path)
        search = joined_search(path, storage, data, seconds=time, **how)
        trials, judge = search.join()
        asked, held = search.asked, search.system.held
        folder = Path(tempfile.mkdtemp(prefix="gfx-search-")) if run is None else Path(run)
        done = len(trials) >= min(asked.evaluations, search.space.size)
        about = (f"nets are those of the search of {printable(path)}",)
        front = write_searched_front(
            folder, trials, judge, JudgedExamples.of_held_out(held), search.limits,
            finished=done, about=about,
        )  # fmt: skip
        write_front_page(folder)
        return FrontSearch(folder, front, len(trials), done, about)


def _finished(folder: Path, given: Sequence[str]) -> FrontSearch:
    """Gives back what a search has found.

    Raises: InputError if it is not finished, or the folder is of something else.
    """
    said = printable(folder)
    if (folder / "recipe.yaml").is_file():
        folder = _searched_in(folder)
    elif not is_search_folder(folder):
        raise InputError(
            f"{said} is a folder and holds no search.json: it is no search; name a .gfx file, "
            "zoo:NAME, or the folder that --run named"
        )
    if not (folder / FRONT).is_file():
        raise InputError(
            f"{said}: the search is not finished; give the command that began it, and it goes on"
        )
    if given:
        raise InputError(
            f"{said} is the folder of a search, whose front is read and not searched for again; "
            f"leave out {', '.join(given)}, or give the model"
        )
    front = read_front(folder)
    return FrontSearch(folder, front, front.judged, front.finished, front.about)


def _searched_in(run: Path) -> Path:
    """Returns the folder of the last search of a run of gfx compress.

    Raises: InputError if it has made none.
    """
    fronts = sorted(path.parent for path in run.glob(f"[0-9][0-9]-*/{FRONT}"))
    if fronts:
        return fronts[-1]
    raise InputError(
        f"{printable(run)} is a run of gfx compress that has found no front: its system has no "
        "search, or it is not there yet; to search among the nets of a supernet, name the .gfx of "
        "the stage that trained it"
    )
