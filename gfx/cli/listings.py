"""`gfx recipes`, `gfx passes`, `gfx zoo`: list what is installed."""

import dataclasses
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfx.cli.completion import complete_pass, complete_recipe, complete_zoo_name
from gfx.cli.error_handling import guarded, warn
from gfx.cli.options import Debug, Json
from gfx.cli.screen import print_json, print_table, print_text

if TYPE_CHECKING:
    from gfx.contract import Pass

__all__ = ["describe_pass", "passes", "recipes", "zoo"]


@guarded
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Print this one.", autocompletion=complete_recipe),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the recipes and systems that ship with gfx, or print one with all its defaults."""
    from gfx.io.shipped_recipes import shipped, shipped_systems
    from gfx.pipeline.recipe import Recipe
    from gfx.train.systems import load_system, presets_of

    systems = {each: load_system(each) for each in shipped_systems()}
    if name is not None:
        recipe = systems[name] if name in systems else Recipe.load(name)
        if as_json:
            print_json(recipe.spec())
        else:
            print_text(recipe.to_yaml())
        return
    loaded = {name: Recipe.load(name) for name in shipped()}
    if as_json:
        specs = {name: recipe.spec() for name, recipe in loaded.items()}
        print_json(specs | {name: system.spec() for name, system in systems.items()})
        return
    rows = [
        (name, recipe.about, ", ".join(pass_.name for pass_ in recipe.passes))
        for name, recipe in loaded.items()
    ]
    print_table(("recipe", "about", "passes"), rows)
    stages = [
        (
            name,
            system.about,
            ", ".join(stage.name for stage in system.stages),
            ", ".join(presets_of(name)),
        )
        for name, system in systems.items()
    ]
    title = "systems, which train: gfx compress"
    print_table(("system", "about", "stages", "presets"), stages, title)


@guarded
def passes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Describe this one.", autocompletion=complete_pass),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the passes that are installed, with their fields, or describe one."""
    from gfx.pipeline.registry import discover, get

    found = discover()
    for broken in found.broken:
        warn(f"plugin {broken.plugin} could not be loaded: {broken.why}")
    if name is not None:
        kind = get(name)
        described = describe_pass(kind, found.origins[name])
        if as_json:
            print_json(described)
            return
        print_text(inspect.cleandoc(kind.__doc__ or ""))
        _print_fields(described["fields"])
        return
    listed = [describe_pass(kind, found.origins[name]) for name, kind in found.passes.items()]
    if as_json:
        print_json(listed)
        return
    rows = [
        (d["name"], d["about"], ", ".join(f"{k}={v}" for k, v in d["fields"].items()), d["origin"])
        for d in listed
    ]
    print_table(("pass", "about", "fields", "from"), rows)


@guarded
def zoo(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Describe this one.", autocompletion=complete_zoo_name
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the reference networks, for MODEL as zoo:NAME or zoo:NAME?option=value."""
    from gfx import zoo as networks

    groups = {"generator": networks.names(), "discriminator": networks.discriminators()}
    kinds = {each: kind for kind, names in groups.items() for each in names}
    listed = tuple(kinds) if name is None else (name.removeprefix("zoo:"),)
    found = [
        {"name": n, "about": networks.about(n), "options": networks.options(n), "kind": kinds[n]}
        for n in listed
    ]
    if as_json:
        print_json(found if name is None else found[0])
        return
    if name is not None:
        print_text(networks.about(listed[0]))
        _print_fields(networks.options(listed[0]))
        return
    for kind, names in groups.items():
        rows = []
        for each in names:
            known = ", ".join(f"{k}={v}" for k, v in networks.options(each).items())
            rows.append((each, networks.about(each), known))
        print_table((kind, "about", "options"), rows)


def _print_fields(fields: dict[str, Any]) -> None:
    print_table(("field", "default"), [(field, str(value)) for field, value in fields.items()])


def describe_pass(kind: "type[Pass]", origin: str) -> dict[str, Any]:
    """Returns a pass's name, first docstring line, fields with their defaults, and origin.

    Example:
        >>> from passes.fuse_batch_norm import FuseBatchNorm
        >>> describe_pass(FuseBatchNorm, "gfx")["name"]
        'fuse_batch_norm'
    """
    from gfx.io.plain_data import plain

    fields = {f.name: plain(_default(f)) for f in dataclasses.fields(kind) if f.init}
    about = (kind.__doc__ or "").strip().partition("\n")[0]
    return {"name": kind.name, "about": about, "fields": fields, "origin": origin}


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "(required)"
