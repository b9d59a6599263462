"""Lets other processes judge nets of a run's search: what the run leaves for them, and joining it.

    model.gfx              the model as it was given
    shared-search.json     its hash, and where the ledger is

1. A run that was given a storage keeps the ledger of its search there. It reads
   nothing else of the workers: they may come and go, on any machine that sees the run's folder.
2. A worker takes the recipe and what the finished stages left from the folder, the data from the
   call; it writes nothing there.
3. A run that began with a storage goes on with one: elsewhere nothing of it is judged.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import fx

from gfx.errors import ArchiveError, InputError
from gfx.io.archive import load, save
from gfx.io.guards import printable
from gfx.io.regular_files import read_regular
from gfx.io.yaml_text import LONGEST
from gfx.train.loop.devices import devices
from gfx.train.runs.opened_run import open_run
from gfx.train.runs.run_folder import RunFolder
from gfx.train.runs.run_system import RunSettings, SystemRun
from gfx.train.runs.search_stage import StageSearch
from gfx.train.search.optuna_ledger import check_storage, without_secret
from gfx.train.systems import System
from gfx.train.systems.read_system import load_system
from gfx.train.tasks.held_out import keep_for_search

__all__ = ["check_shared_search", "data_of_run", "joined_search", "note_shared_search"]

_NOTE, _MODEL = "shared-search", "model.gfx"
_BYTES = 2**34  # of a model
_SEEN = ("size", "crop", "flip", "range", "val", "labels", "attributes")
_AGAIN = "give the folder of the run as gfx compress wrote it"


def check_shared_search(system: System, storage: str | None) -> None:
    """Refuses a storage that no search of a system can have.

    Raises: InputError if it cannot be reached, or there is not one search.
    """
    if storage is None:
        return
    searches = [stage.name for stage in system.stages if stage.search is not None]
    if len(searches) != 1:
        there = "has no search" if not searches else f"has {len(searches)} searches"
        raise InputError(
            f"storage is for the ledger of one search, and this recipe {there}; leave storage out"
        )
    check_storage(storage)


def note_shared_search(run: SystemRun) -> None:
    """Leaves in the folder what workers need (rule 1).

    Raises: InputError if the run began with a storage, and has none now (rule 3).
    """
    folder, storage = run.folder, run.settings.storage
    noted = folder.noted(_NOTE)
    if storage is None:
        if noted is not None and not _search_has_ended(run):
            raise InputError(
                f"{printable(folder.path)} keeps the ledger of its search in "
                f"{noted['storage']}; give that storage again"
            )
        return
    if not run.devices.main:
        return
    path = folder.path / _MODEL
    if noted is None:
        save(run.model, path)
    else:
        _given(folder, noted)
    held = folder.seal(path.read_bytes())
    folder.note(_NOTE, {"model": held, "storage": without_secret(storage)})


def _search_has_ended(run: SystemRun) -> bool:
    stages = enumerate(run.system.stages)
    return all(run.folder.finished(n, s.name) for n, s in stages if s.search is not None)


def joined_search(
    path: Path,
    storage: str,
    data: Any,
    *,
    call: Any = None,
    fid_weights: str | None = None,
    seconds: float | None = None,
) -> StageSearch:
    """Opens the search of a run, to judge nets of it in this process too (rule 2).

    `data` is what the run was given.

    Raises: InputError if the run has no search that waits for workers, or the data are others.
    """
    folder = RunFolder(path)
    asked = folder.asked()
    noted = folder.noted(_NOTE)
    if noted is None:
        raise InputError(
            f"{printable(path)} is a run whose search is not shared: give its gfx compress "
            "--storage too, and it goes on with the workers"
        )
    check_storage(storage)
    system = load_system({key: value for key, value in asked.items() if key != "run"})
    how = asked["run"]
    settings = RunSettings(
        seed=how["seed"],
        scale=how["scale"],
        metrics=tuple(how["metrics"]),
        fid_weights=fid_weights,
        seconds=seconds,
        storage=storage,
    )
    seen = {key: tuple(v) if isinstance(v := how[key], list) else v for key in _SEEN}
    opened = open_run(
        _given(folder, noted), data, None, None,
        task=how["task"], seed=settings.seed, call=call, **seen,
    )  # fmt: skip
    task, searched = keep_for_search(opened.task, system.data.get("search"), settings.seed)
    held = 0 if task.held_out is None else task.held_out.length
    for key, now in (("examples", task.length), ("held out", held)):
        if how[key] != now:
            raise InputError(
                f"{printable(path)}: {key}: the run has {how[key]}, and these data {now}; give the "
                "data that the run was given"
            )
    run = SystemRun(system, opened.given, task, opened.critics, folder, devices(None), settings)
    run.searched = searched
    return _waiting(run)


def data_of_run(path: Path) -> Any:
    """Returns the folders of data that a run noted; None: its data were no folders."""
    try:
        held = json.loads(read_regular(path / "called.json", LONGEST, _AGAIN))
        found = [str(each) for each in held["data"]]
    except (ArchiveError, KeyError, TypeError, ValueError):
        return None
    return None if not found else found[0] if len(found) == 1 else tuple(found)


def _waiting(run: SystemRun) -> StageSearch:
    """Returns the search that the run is at.

    Raises: InputError if it is at another stage.
    """
    for number, stage in enumerate(run.system.stages):
        where = f"{printable(run.folder.path)}: stage {stage.name}"
        ended = run.folder.finished(number, stage.name)
        if stage.search is not None:
            if ended is not None:
                raise InputError(f"{where}: its search is finished; leave storage out to read it")
            return StageSearch(run, number, stage, run.prepared(stage, 0))
        if ended is None:
            raise InputError(
                f"{where} is not finished, and its search comes after that; give the command again "
                "when it is"
            )
        net = load(run.folder.stage_file(number, stage.name, ".gfx"))
        assert isinstance(net, fx.GraphModule)
        run.nets.generators[stage.name] = net
        run.nets.last = stage.name
    raise InputError(f"{printable(run.folder.path)} is a run whose recipe has no search")


def _given(folder: RunFolder, noted: Mapping[str, Any]) -> fx.GraphModule:
    """Opens the model that the run was given.

    Raises: ArchiveError or InputError if the file is not what the run wrote.
    """
    path = folder.path / _MODEL
    if folder.seal(read_regular(path, _BYTES, _AGAIN)) != noted["model"]:
        raise InputError(f"{printable(path)} is not what the run wrote; {_AGAIN}")
    found = load(path)
    assert isinstance(found, fx.GraphModule)
    return found
