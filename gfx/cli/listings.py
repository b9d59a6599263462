"""`gfx recipes`, `gfx passes`, `gfx zoo`: list what is installed."""

import dataclasses
from typing import TYPE_CHECKING, Any

from gfx.cli.error_handling import guarded, warn
from gfx.cli.options import Debug, Json
from gfx.cli.screen import print_json, print_table

if TYPE_CHECKING:
    from gfx.contract import Pass

__all__ = ["describe_pass", "passes", "recipes", "zoo"]


@guarded
def recipes(as_json: Json = False, debug: Debug = False) -> None:
    """List the recipes that ship with gfx."""
    from gfx.pipeline.recipe import Recipe, shipped

    loaded = {name: Recipe.load(name) for name in shipped()}
    if as_json:
        print_json({name: recipe.spec() for name, recipe in loaded.items()})
        return
    rows = [
        (name, recipe.about, ", ".join(pass_.name for pass_ in recipe.passes))
        for name, recipe in loaded.items()
    ]
    print_table(("recipe", "about", "passes"), rows)


@guarded
def passes(as_json: Json = False, debug: Debug = False) -> None:
    """List the passes that are installed, with their fields."""
    from gfx.pipeline.registry import discover

    found = discover()
    for broken in found.broken:
        warn(f"plugin {broken.plugin} could not be loaded: {broken.why}")
    described = [describe_pass(kind, found.origins[name]) for name, kind in found.passes.items()]
    if as_json:
        print_json(described)
        return
    rows = [
        (d["name"], d["about"], ", ".join(f"{k}={v}" for k, v in d["fields"].items()), d["origin"])
        for d in described
    ]
    print_table(("pass", "about", "fields", "from"), rows)


@guarded
def zoo(as_json: Json = False, debug: Debug = False) -> None:
    """List the reference generators, for MODEL as zoo:NAME or zoo:NAME?option=value."""
    from gfx import zoo as generators

    found = [
        (name, generators.about(name), generators.options(name)) for name in generators.names()
    ]
    if as_json:
        print_json([dict(zip(("name", "about", "options"), row, strict=True)) for row in found])
        return
    rows = [(n, text, ", ".join(f"{k}={v}" for k, v in known.items())) for n, text, known in found]
    print_table(("generator", "about", "options"), rows)


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
