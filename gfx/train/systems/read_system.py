"""Reads a system: a YAML file, the name of one that ships, a dict or a System."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfx.errors import RecipeError, did_you_mean
from gfx.io.plain_data import coerce, shown
from gfx.io.shipped_recipes import recipes_folder, shipped, shipped_systems
from gfx.io.yaml_text import parse
from gfx.pipeline.recipe import InputSpec, input_specs, read_text
from gfx.train.search.search_fields import read_search
from gfx.train.systems.fit_fields import Fit, read_fit
from gfx.train.systems.system import Keep, System, SystemStage

__all__ = ["SystemSource", "load_system", "presets_of"]

SystemSource = str | Path | Mapping[str, Any] | System

_KEYS = ("recipe", "about", "input", "seed", "data", "stages", "presets")
_STAGE_KEYS = ("do", "budget", "fit", "search", "keep")


def load_system(source: SystemSource, preset: str | None = None) -> System:
    """Reads a path, the name of a shipped system, a dict, or a System.

    `preset` is a name under `presets:`, whose fields replace those of the stages.

    Raises: RecipeError that says where, what was found and what was expected.

    Example:
        >>> load_system({"stages": {"train": {"fit": {"losses": {"l1": 1}}}}}).stages[0].name
        'train'
    """
    if isinstance(source, System):
        if preset is not None:
            raise RecipeError(f"preset={preset!r}: a System is expanded already; leave preset out")
        return source
    data, origin = _read(source)
    if preset is not None:
        data = _with_preset(data, preset, origin)
    return _from_dict(data, origin)


def _read(source: str | Path | Mapping[str, Any]) -> tuple[Any, str]:
    """Returns a recipe as plain data, and its name in messages."""
    if isinstance(source, Mapping):
        return source, "recipe"
    if not isinstance(source, str | Path):
        raise RecipeError(
            "a system is a path, the name of one that ships, a dict or a System, not "
            f"{type(source).__name__}"
        )
    if isinstance(source, str) and source in shipped_systems():
        text = (recipes_folder() / "systems" / f"{source}.yaml").read_text("utf-8")
        return parse(text, source), source
    if isinstance(source, str) and source in shipped():
        return parse((recipes_folder() / f"{source}.yaml").read_text("utf-8"), source), source
    text, origin = read_text(source, shipped_systems())
    return parse(text, origin), origin


def presets_of(source: SystemSource) -> tuple[str, ...]:
    """Returns the names of the presets of a system.

    Example:
        >>> "horse2zebra" in presets_of("gan-compression-distill")
        True
    """
    data = {} if isinstance(source, System) else _read(source)[0]
    found = data.get("presets") if isinstance(data, Mapping) else None
    return tuple(map(str, found)) if isinstance(found, Mapping) else ()


def _with_preset(data: Any, preset: str, origin: str) -> Any:
    """Replaces fields of the stages by those of a preset."""
    presets = data.get("presets") if isinstance(data, Mapping) else None
    known = presets if isinstance(presets, Mapping) else {}
    if preset not in known:
        raise RecipeError(
            f"{origin}: there is no preset {shown(preset)}{did_you_mean(preset, known)}"
            if known
            else f"{origin}: has no presets; leave preset={preset!r} out"
        )
    where = f"{origin}: presets: {preset}"
    if not isinstance(known[preset], Mapping):
        raise RecipeError(f"{where}: a mapping of stages is expected, not {shown(known[preset])}")
    stages = {**data["stages"]}
    for name, change in known[preset].items():
        if name not in stages:
            raise RecipeError(
                f"{where}: there is no stage {shown(name)}{did_you_mean(name, stages)}"
            )
        stages[name] = _merged(stages[name], change)
    return {**data, "stages": stages}


def _merged(before: Any, change: Any) -> Any:
    """Replaces what a change names; mappings are merged, and a field that becomes null goes."""
    if not (isinstance(before, Mapping) and isinstance(change, Mapping)):
        return change
    made = {**before, **{key: _merged(before.get(key), each) for key, each in change.items()}}
    length = {"epochs", "steps"} & change.keys()
    if length:  # one of them says how long
        made = {k: v for k, v in made.items() if k not in {"epochs", "steps"} - length}
    return {key: each for key, each in made.items() if each is not None}


def _from_dict(data: Any, origin: str) -> System:
    if not isinstance(data, Mapping):
        raise RecipeError(f"{origin}: a system is a mapping with `stages`, not {shown(data)}")
    if "stages" not in data and "passes" in data:
        raise RecipeError(
            f"{origin}: has `passes` and no `stages`: nothing of it trains; run it by gfx.apply, "
            "in the shell by `gfx apply`"
        )
    for key in data:
        if key not in _KEYS:
            raise RecipeError(f"{origin}: unknown key {shown(key)}{did_you_mean(key, _KEYS)}")
    stages = data.get("stages")
    if not isinstance(stages, Mapping) or not stages:
        raise RecipeError(
            f"{origin}: stages is a mapping of names to stages, at least one, not {shown(stages)}"
        )
    apart = ("stages", "input", "presets")
    values: dict[str, Any] = {key: data[key] for key in data if key not in apart}
    for key, kind in (
        ("recipe", int), ("about", str), ("seed", int | None), ("data", dict[str, float]),
    ):  # fmt: skip
        if key in values:
            values[key] = _field(values[key], kind, f"{origin}: {key}")
    if data.get("input") is not None:
        entries = input_specs(data["input"], origin)
        values["input"] = _field(entries, tuple[InputSpec, ...], f"{origin}: input")
    read: list[SystemStage] = []
    for name, stage in stages.items():
        read.append(_stage(str(name), stage, f"{origin}: stage {name}", read))
    try:
        return System(stages=tuple(read), **values)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from error


def _stage(name: str, data: Any, where: str, before: list[SystemStage]) -> SystemStage:
    if not isinstance(data, Mapping):
        raise RecipeError(
            f"{where}: a mapping of do, budget, fit, search and keep is expected, not {shown(data)}"
        )
    for key in data:
        if key not in _STAGE_KEYS:
            raise RecipeError(f"{where}: unknown key {shown(key)}{did_you_mean(key, _STAGE_KEYS)}")
    passes = data.get("do") or ()
    if not isinstance(passes, list | tuple):
        raise RecipeError(f"{where}: do is a list of passes, not {shown(passes)}")
    fit = None if data.get("fit") is None else _fit(data["fit"], f"{where}: fit", before)
    keep = _field(data.get("keep", "last"), Keep, f"{where}: keep")
    try:
        asked, budget = data.get("search"), data.get("budget") or {}
        search = None if asked is None else read_search(asked, "search")
        return SystemStage(name, tuple(passes), fit, keep, search, budget)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _fit(data: Any, where: str, before: list[SystemStage]) -> Fit:
    like = data.get("like") if isinstance(data, Mapping) else None
    if like is None:
        return read_fit(data, where)
    known = {stage.name: stage.fit for stage in before if stage.fit is not None}
    if like not in known:
        raise RecipeError(
            f"{where}: like: {shown(like)} is no stage before it that has a fit"
            f"{did_you_mean(like, known)}"
        )
    return read_fit(data, where, known[like])


def _field(value: Any, kind: Any, where: str) -> Any:
    try:
        return coerce(value, kind)
    except (TypeError, RecipeError) as error:
        raise RecipeError(f"{where}: {error}") from error
