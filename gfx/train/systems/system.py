"""Defines a system: a recipe with stages, each of passes on the student and one training loop.

    recipe: 1
    about: distillation of GAN Compression
    stages:
      student: {do: [{channel_prune: {ratio: 0.25}}],
                fit: {teacher: given, losses: {gan: hinge, recon: 100, taps: 1}, epochs: 5+15}}

1. The student of a stage is what the stage before it kept; of the first, the model as it was given.
2. In the passes of a stage a number of steps may be a share of its fit, as `end: 50%`.
3. `load_system(system.spec()) == system` for every system.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gfx.errors import RecipeError, check_range, did_you_mean, require_seed
from gfx.io.plain_data import plain, shown
from gfx.io.yaml_text import dump
from gfx.pipeline.recipe import InputSpec, Recipe
from gfx.train.search.search_fields import Search
from gfx.train.systems.check_players import check_players
from gfx.train.systems.fit_fields import GIVEN, Fit

__all__ = ["Keep", "System", "SystemStage"]

Keep = Literal["last", "best", "if_better"]

_USES = ("search", "labelled")  # of shares: kept apart, with their targets
_ANY = 1000  # steps, while passes are read
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class SystemStage:
    """One stage: passes, then a training loop, then what of it becomes the program.

    last: what the loop ends with; best: the best of its evaluations; if_better: the best, unless
    the stage began with something better.
    """

    name: str
    passes: tuple[Any, ...] = ()  # as a recipe lists them; every default is added
    fit: Fit | None = None
    keep: Keep = "last"
    search: Search | None = None
    budget: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the passes together

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"a stage is called {shown(self.name)}; give letters, digits, - and _, at most 64"
            )
        if self.name == GIVEN:
            raise RecipeError(f"a stage is called {GIVEN!r}, which is the model as it was given")
        if not self.passes and self.fit is None and self.search is None:
            raise RecipeError(
                f"stage {self.name} has neither `do` nor `fit` nor `search`; give one of them"
            )
        if self.search is not None and self.fit is not None:
            raise RecipeError(
                f"stage {self.name} has `fit` and `search`; a search chooses among what a fit has "
                "trained: give it a stage of its own, behind that"
            )
        if self.keep != "last" and self.fit is None:
            raise RecipeError(f"stage {self.name}: keep: {self.keep} judges what a `fit` has made")
        written = self.recipe(_ANY, seed=0).spec()["passes"]
        pairs = zip(self.passes, written, strict=True)
        # every default written out, so that what is stored is what is run
        object.__setattr__(self, "passes", tuple(_spelt(*pair) for pair in pairs))

    def recipe(self, steps: int, seed: int) -> Recipe:
        """Returns the passes as a recipe, for a fit of so many steps (rule 2).

        Raises: RecipeError as `Recipe.load` does.

        Example:
            >>> stage = SystemStage("slim", ({"mask": {"sparsity": 0.5, "end": "50%"}},))
            >>> stage.recipe(100, seed=0).passes[0].end
            50
        """
        resolved = [_resolved(entry, steps) for entry in self.passes]
        try:
            return Recipe.load({"passes": resolved, "seed": seed, "budget": self.budget or None})
        except RecipeError as error:
            said = str(error).removeprefix("recipe: ")
            raise RecipeError(f"do: {said}") from error

    def spec(self) -> dict[str, Any]:
        """Returns the stage as plain data that is read back."""
        found: dict[str, Any] = {}
        if self.passes:
            found["do"] = [plain(entry) for entry in self.passes]
        if self.budget:
            found["budget"] = plain(self.budget)
        if self.fit is not None:
            found |= {"fit": self.fit.spec(), "keep": self.keep}
        if self.search is not None:
            found["search"] = self.search.spec()
        return found


@dataclass(frozen=True)
class System:
    """A recipe with stages."""

    stages: tuple[SystemStage, ...]
    recipe: int = 1
    about: str = ""
    input: tuple[InputSpec, ...] | None = None  # None: inferred from the model
    seed: int | None = None  # None: 0
    data: dict[str, float] = dataclasses.field(default_factory=dict)  # shares of examples, by use

    def __post_init__(self) -> None:
        if self.recipe != 1:
            raise RecipeError(f"recipe version {self.recipe} is unknown; this gfx reads 1")
        if not self.stages:
            raise RecipeError("stages is empty; give at least one")
        if self.seed is not None:
            require_seed(self.seed)
        for use, share in self.data.items():
            if use not in _USES:
                raise RecipeError(
                    f"data: unknown use {shown(use)}{did_you_mean(use, _USES)}; give shares of the "
                    "examples: {search: 0.2} is kept for a search, of {labelled: 0.25} the targets "
                    "are used"
                )
            check_range(f"data: {use}", share, above=0, below=1)
        known: list[str] = []
        for stage in self.stages:
            if stage.fit is not None:
                check_players(stage.name, stage.fit, known)
            known.append(stage.name)

    def stage(self, name: str) -> SystemStage:
        """Returns a stage by name."""
        return next(stage for stage in self.stages if stage.name == name)

    def spec(self) -> dict[str, Any]:
        """Returns the system as plain data with every default written out (rule 3)."""
        fields = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {**fields, "stages": {stage.name: stage.spec() for stage in self.stages}}

    def to_yaml(self) -> str:
        """Writes the system as YAML that `load_system` reads back."""
        return dump(self.spec())

    def with_batch(self, batch: int) -> "System":
        """Returns the system with as many examples in a step of every stage.

        Raises: RecipeError if it is no number of examples.

        Example:
            >>> from gfx.train.systems import load_system
            >>> load_system("self-distill").with_batch(2).stages[0].fit.batch
            2
        """
        stages = [
            stage
            if stage.fit is None
            else dataclasses.replace(stage, fit=dataclasses.replace(stage.fit, batch=batch))
            for stage in self.stages
        ]
        return dataclasses.replace(self, stages=tuple(stages))

    @property
    def labels(self) -> float:
        """The share of the pairs whose targets are used."""
        return self.data.get("labelled", 1.0)

    def with_labels(self, share: float | None) -> "System":
        """Returns the system with another share of pairs whose targets are used; None: its own.

        Raises: RecipeError if it is no share above 0.

        Example:
            >>> from gfx.train.systems import load_system
            >>> load_system("self-distill").with_labels(0.5).data
            {'labelled': 0.5}
        """
        if share is None:
            return self
        check_range("labels", share, above=0, at_most=1)
        data = {use: each for use, each in self.data.items() if use != "labelled"}
        return dataclasses.replace(self, data=data | ({"labelled": share} if share < 1 else {}))

    def with_budget(self, budget: Mapping[str, Any]) -> "System":
        """Returns the system with another budget where it has one: of its search, else of passes.

        Raises: RecipeError if no stage has one, or it is none.

        Example:
            >>> from gfx.train.systems import load_system
            >>> system = load_system("gan-compression").with_budget({"macs": 0.3})
            >>> system.stage("search").search.budget
            {'macs': 0.3}
        """
        searches = any(stage.search is not None for stage in self.stages)

        def changed(stage: SystemStage) -> SystemStage:
            if stage.search is not None:
                search = dataclasses.replace(stage.search, budget=dict(budget))
                return dataclasses.replace(stage, search=search)
            if stage.budget and not searches:
                return dataclasses.replace(stage, budget=dict(budget))
            return stage

        if not searches and not any(stage.budget for stage in self.stages):
            raise RecipeError(
                f"budget={shown(dict(budget))}: no stage of this recipe has a search or a budget; "
                "how much goes is said by its passes, under `do`: give a recipe that changes these"
            )
        return dataclasses.replace(self, stages=tuple(changed(stage) for stage in self.stages))

    def refuse_unrunnable(self) -> None:
        """Refuses what the grammar has, and this version does not run.

        Raises: RecipeError naming the stage and the field.
        """
        for stage in self.stages:
            fit = stage.fit
            if fit is not None and isinstance(fit.data, str):
                raise RecipeError(
                    f"stage {stage.name}: fit: data: {fit.data}: this version of gfx does not have "
                    "this filter; give labelled, unlabelled or all, or install a plugin that has it"
                )
            several = None if stage.search is None else stage.search.pick
            asked = {
                "search: pick": None if isinstance(several, str) else several,
                "fit: discriminator: wrap": None if fit is None else fit.discriminator.wrap,
            }
            for partner in () if fit is None else fit.players:
                asked[f"fit: players: {partner.name}: discriminator: wrap"] = (
                    partner.discriminator.wrap
                )
            for field, value in asked.items():
                if value is not None:
                    raise RecipeError(
                        f"stage {stage.name}: {field}: {shown(value)}: this version of gfx reads "
                        "it, and does not run it"
                    )


def _resolved(entry: Any, steps: int) -> Any:
    """Writes shares of the fit as steps (rule 2)."""
    if not isinstance(entry, Mapping):
        return entry
    return {name: _shares(fields, steps) for name, fields in entry.items()}


def _shares(fields: Any, steps: int) -> Any:
    if not isinstance(fields, Mapping):
        return fields
    made = {}
    for key, value in fields.items():
        found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
        made[key] = value if found is None else max(1, round(steps * float(found[1]) / 100))
    return made


def _spelt(entry: Any, written: dict[str, Any]) -> dict[str, Any]:
    """Writes a pass with every default; shares of the fit stay shares."""
    if not isinstance(entry, Mapping):
        return written
    made = {}
    for name, fields in written.items():
        given = entry.get(name)
        shares = {
            key: value
            for key, value in (given.items() if isinstance(given, Mapping) else ())
            if isinstance(value, str) and _SHARE.fullmatch(value.strip())
        }
        made[name] = {**plain(fields), **shares}
    return made
