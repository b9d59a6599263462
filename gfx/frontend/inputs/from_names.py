"""Infers the role of an input from its name."""

import re
from enum import Enum

from torch import nn

__all__ = ["Role", "role_of", "sizes_from_attributes", "widths_from_attributes"]


class Role(Enum):
    """Names what an input is used for."""

    IMAGE = "image"
    LATENT = "latent"
    LABEL = "label"
    TIME = "time"
    MASK = "mask"


_WORDS = (
    (Role.LATENT, r"z\d*|zs|noise|latents?|code|style|styles|w|ws|eps|seed"),
    (Role.TIME, r"t|ts|time|times|timesteps?|sigma|steps?"),
    (Role.LABEL, r"y|c|cls|class|classes|label|labels|target|cond|condition|attr|attrs|domain|id"),
    (Role.MASK, r"mask|masks|alpha|edge|edges|depth"),
)
# attributes of a model that say how wide a latent or a label is, or how large an image
_WIDTHS = (
    (Role.LATENT, r"(z|latent|noise|style|w|code)_?(dim|size|channels|ch|c|len)|dim_z|nz|zdim"),
    (Role.LABEL, r"(c|y|label|class|cond|attr|num|n)_?(dim|size|nc|classes|labels|domains)"),
)
_SIZE = r"(image|img|input|in|crop|load)_?(size|resolution|res)|resolution|size"


def role_of(name: str) -> Role:
    """Infers the role of an input from its name; an image where the name is unknown.

    Example:
        >>> role_of("z"), role_of("class_id"), role_of("x")
        (<Role.LATENT: 'latent'>, <Role.LABEL: 'label'>, <Role.IMAGE: 'image'>)
    """
    words = name.lower().split("_")
    for role, pattern in _WORDS:
        if any(re.fullmatch(pattern, word) for word in (name.lower(), *words)):
            return role
    return Role.IMAGE


def widths_from_attributes(model: nn.Module, role: Role) -> list[int]:
    """Lists the widths for a role among the integer attributes of the model."""
    return _numbers(model, dict(_WIDTHS).get(role, r"(?!)"))


def sizes_from_attributes(model: nn.Module) -> list[int]:
    """Lists the image sizes among the integer attributes of the model."""
    return _numbers(model, _SIZE)


def _numbers(model: nn.Module, pattern: str) -> list[int]:
    found = [
        value
        for name, value in vars(model).items()
        if type(value) is int and 1 <= value <= 4096 and re.fullmatch(pattern, name.lower())
    ]
    return list(dict.fromkeys(found))
