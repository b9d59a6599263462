"""Reads the folder of a run for its page: how far it is, what it costs, what it has logged.

1. Any file may be missing, cut or damaged: what cannot be read becomes a sentence.
2. Nothing is run or imported, and what is read is bounded (folder_files.py).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfx.errors import GfxError
from gfx.io.guards import reason
from gfx.io.plain_data import coerce
from gfx.io.yaml_text import parse
from gfx.reports.run.folder_files import Row, number_of, read_json, read_rows, read_text
from gfx.train.runs.preflight import RunPlan
from gfx.train.systems.fit_fields import GIVEN

__all__ = ["FolderFacts", "StageFacts", "is_run_folder", "run_facts"]

_STAGES = 200
_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)  # of a stage
_SAMPLE = re.compile(r"(\d+)-(.+)-(\d+)\.png")


@dataclass(frozen=True)
class StageFacts:
    """How far a stage is; what is not known is None."""

    number: int  # from 1
    name: str
    steps: int | None  # planned
    taken: int
    macs: int | None
    params: int | None
    ended: bool
    scores: Mapping[str, float]  # of what it keeps, on held-out examples
    samples: tuple[tuple[int, Path], ...]  # step and picture, the newest last


@dataclass(frozen=True)
class FolderFacts:
    """What the folder of a run says."""

    folder: Path
    recipe: str  # the text of recipe.yaml
    about: str
    asked: Mapping[str, Any]  # what the run was given: model, task, seed, ...
    called: Mapping[str, Any]  # names of system, preset and data
    plan: RunPlan | None
    stages: tuple[StageFacts, ...]
    rows: tuple[Row, ...]
    given_scores: Mapping[str, float]  # of the model as it was given
    said: tuple[str, ...]  # what was assumed
    faults: tuple[str, ...]  # what could not be read

    @property
    def finished(self) -> bool:
        """Whether all stages have ended."""
        return bool(self.stages) and all(stage.ended for stage in self.stages)

    @property
    def system(self) -> str:
        """What the system, or its file, was called, else the folder."""
        name = self.called.get("system")
        if not isinstance(name, str) or not name:
            return self.folder.absolute().name
        return name.replace("\\", "/").rpartition("/")[2].removesuffix(".yaml") or name

    @property
    def model(self) -> str:
        """The class of the model that was given."""
        return str(self.asked.get("model", "")).split(" ")[0] or "a model"

    @property
    def progress(self) -> str:
        """Says how far the run is."""
        if not self.stages:
            return "before its first stage"
        if self.finished:
            count = len(self.stages)
            return f"finished: {count} stages" if count > 1 else "finished: 1 stage"
        now = next(stage for stage in self.stages if not stage.ended)
        of = "" if now.steps is None else f" of {now.steps:,}"
        return (
            f"unfinished: stage {now.number} of {len(self.stages)} ({now.name}), "
            f"step {now.taken:,}{of}"
        )

    @property
    def scores(self) -> dict[str, Mapping[str, float]]:
        """The scores of the model as it was given, and of the stages that have ended, by name."""
        given = {GIVEN: self.given_scores} if self.given_scores else {}
        return {**given, **{stage.name: stage.scores for stage in self.stages if stage.ended}}


def is_run_folder(path: Path) -> bool:
    """Tells whether a folder is that of a run: it has a recipe.yaml."""
    return os.path.isfile(path / "recipe.yaml")


def run_facts(folder: Path) -> FolderFacts:
    """Reads the folder of a run (rules 1 and 2).

    Example: `run_facts(Path("runs/shoes")).progress` → `"finished: 2 stages"`.
    """
    faults: list[str] = []
    recipe = read_text(folder / "recipe.yaml", faults) or ""
    asked = _mapping(_parsed(recipe, faults))
    plan = _plan(folder / "plan.json", faults)
    path = folder / "called.json"
    called = _mapping(read_json(path, faults)) if path.exists() else {}
    rows = tuple(read_rows(folder / "log.jsonl", faults))
    stages, said = _stages(folder, asked, plan, rows, faults)
    path = folder / "given.json"
    given = _mapping(read_json(path, faults)) if path.exists() else {}
    return FolderFacts(
        folder,
        recipe,
        str(asked.get("about") or ""),
        _mapping(asked.get("run")),
        called,
        plan,
        tuple(stages),
        rows,
        _scores(given),
        tuple(dict.fromkeys([*_sentences(called), *said, *_sentences(given)])),
        tuple(faults),
    )


def _stages(
    folder: Path, asked: Mapping[str, Any], plan: RunPlan | None, rows: tuple[Row, ...], faults: Any
) -> tuple[list[StageFacts], list[str]]:
    """Returns the stages, of the plan else of the recipe, and what was assumed."""
    planned = {} if plan is None else {each.name: each for each in plan.stages[1:]}
    names = list(planned) or list(map(str, _mapping(asked.get("stages"))))
    reached: dict[int, int] = {}
    for row in rows:
        reached[row["stage"]] = max(reached.get(row["stage"], 0), row["step"])
    samples = _samples(folder / "samples")
    found: list[StageFacts] = []
    said: dict[str, None] = {}
    for number, name in enumerate(names[:_STAGES], 1):
        path = folder / f"{number:02d}-{name}.json"
        is_over = _NAME.fullmatch(name) is not None and path.is_file()
        ended = _mapping(read_json(path, faults)) if is_over else {}
        said.update(dict.fromkeys(_sentences(ended)))
        cost = planned.get(name)
        found.append(
            StageFacts(
                number,
                name,
                None if cost is None else cost.steps,
                reached.get(number, 0),
                None if cost is None else cost.macs,
                None if cost is None else cost.params,
                is_over,
                _scores(ended),
                tuple(samples.get(number, ())),
            )
        )
    return found, list(said)


def _samples(folder: Path) -> dict[int, list[tuple[int, Path]]]:
    """Lists the pictures by the number of their stage, the newest last."""
    found: dict[int, list[tuple[int, Path]]] = {}
    for path in folder.glob("*.png") if folder.is_dir() else ():
        named = _SAMPLE.fullmatch(path.name)
        if named and path.is_file() and max(len(named[1]), len(named[3])) < 16:
            found.setdefault(int(named[1]), []).append((int(named[3]), path))
    return {number: sorted(each) for number, each in found.items()}


def _plan(path: Path, faults: list[str]) -> RunPlan | None:
    """Reads what the stages cost; there is none before the run has been checked."""
    if not path.exists():
        return None
    data = read_json(path, faults)
    if data is None:
        return None
    try:
        plan = coerce(data, RunPlan)
    except TypeError as error:
        faults.append(f"plan.json is not what gfx writes ({reason(error)})")
        return None
    assert isinstance(plan, RunPlan)
    return plan if plan.stages else None


def _parsed(text: str, faults: list[str]) -> Any:
    try:
        return parse(text, "recipe.yaml")
    except GfxError as error:
        faults.append(str(error).splitlines()[0])
        return {}


def _scores(data: Mapping[str, Any]) -> dict[str, float]:
    found = _mapping(data.get("scores"))
    return {str(k): value for k, v in found.items() if (value := number_of(v)) is not None}


def _sentences(data: Mapping[str, Any]) -> list[str]:
    said = data.get("said")
    return list(map(str, said)) if isinstance(said, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
