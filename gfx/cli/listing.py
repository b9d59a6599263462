"""Describes passes for the shell."""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfx.contract import Pass

__all__ = ["describe_pass"]


def describe_pass(kind: "type[Pass]", origin: str) -> dict[str, Any]:
    """Returns a pass's name, first docstring line, fields with their defaults, and origin.

    Example:
        >>> from passes.fuse_batch_norm import FuseBatchNorm
        >>> describe_pass(FuseBatchNorm, "gfx")["name"]
        'fuse_batch_norm'
    """
    from gfx.coerce import plain

    fields = {f.name: plain(_default(f)) for f in dataclasses.fields(kind) if f.init}
    about = (kind.__doc__ or "").strip().partition("\n")[0]
    return {"name": kind.name, "about": about, "fields": fields, "origin": origin}


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "(required)"
