"""Reads a system: a YAML file, the name of one that ships, a dict or a System."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfx.errors import RecipeError, did_you_mean
from gfx.io.plain_data import coerce, shown
from gfx.io.yaml_text import parse
from gfx.pipeline.recipe import InputSpec, input_specs, read_text, recipes_folder, shipped
from gfx.train.systems.fit_fields import Fit, read_fit
from gfx.train.systems.system import Keep, System, SystemStage

__all__ = ["load_system", "shipped_systems"]

SystemSource = str | Path | Mapping[str, Any] | System

_KEYS = ("recipe", "about", "input", "seed", "stages")
_STAGE_KEYS = ("do", "fit", "keep")
# of the grammar, and not run by this version
_LATER = {"search": "searches", "sample": "trains supernets"}


def shipped_systems() -> tuple[str, ...]:
    """Returns the names of the systems that ship with gfx.

    Example:
        >>> "gan-compression-distill" in shipped_systems()
        True
    """
    return tuple(sorted(path.stem for path in (recipes_folder() / "systems").glob("*.yaml")))


def load_system(source: SystemSource) -> System:
    """Reads a path, the name of a shipped system, a dict, or a System.

    Raises: RecipeError that says where, what was found and what was expected.

    Example:
        >>> load_system({"stages": {"train": {"fit": {"losses": {"l1": 1}}}}}).stages[0].name
        'train'
    """
    if isinstance(source, System):
        return source
    if isinstance(source, Mapping):
        return _from_dict(source, "recipe")
    if not isinstance(source, str | Path):
        raise RecipeError(
            "a system is a path, the name of one that ships, a dict or a System, not "
            f"{type(source).__name__}"
        )
    if isinstance(source, str) and source in shipped_systems():
        text = (recipes_folder() / "systems" / f"{source}.yaml").read_text("utf-8")
        return _from_dict(parse(text, source), source)
    text, origin = read_text(source, (*shipped_systems(), *shipped()))
    return _from_dict(parse(text, origin), origin)


def _from_dict(data: Any, origin: str) -> System:
    if not isinstance(data, Mapping):
        raise RecipeError(f"{origin}: a system is a mapping with `stages`, not {shown(data)}")
    if "stages" not in data and "passes" in data:
        raise RecipeError(
            f"{origin}: has `passes` and no `stages`: nothing of it trains; run it by gfx.apply, in "
            f"the shell by `gfx apply`"
        )
    for key in data:
        if key not in _KEYS:
            raise RecipeError(f"{origin}: unknown key {shown(key)}{did_you_mean(key, _KEYS)}")
    stages = data.get("stages")
    if not isinstance(stages, Mapping) or not stages:
        raise RecipeError(
            f"{origin}: stages is a mapping of names to stages, at least one, not {shown(stages)}"
        )
    values: dict[str, Any] = {key: data[key] for key in data if key not in ("stages", "input")}
    for key, kind in (("recipe", int), ("about", str), ("seed", int | None)):
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
        raise RecipeError(f"{where}: a mapping of do, fit and keep is expected, not {shown(data)}")
    for key in data:
        if key in _LATER:
            raise RecipeError(f"{where}: {key}: this version of gfx does not run what {_LATER[key]}")
        if key not in _STAGE_KEYS:
            raise RecipeError(f"{where}: unknown key {shown(key)}{did_you_mean(key, _STAGE_KEYS)}")
    passes = data.get("do") or ()
    if not isinstance(passes, list | tuple):
        raise RecipeError(f"{where}: do is a list of passes, not {shown(passes)}")
    fit = None if data.get("fit") is None else _fit(data["fit"], f"{where}: fit", before)
    keep = _field(data.get("keep", "last"), Keep, f"{where}: keep")
    try:
        return SystemStage(name, tuple(passes), fit, keep)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _fit(data: Any, where: str, before: list[SystemStage]) -> Fit:
    if isinstance(data, Mapping):
        for key in data:
            if key in _LATER:
                raise RecipeError(
                    f"{where}: {key}: this version of gfx does not run what {_LATER[key]}"
                )
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


