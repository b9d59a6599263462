"""Finds installed samplers by the entry point `gfx.samplers`, and reads `sample:` of recipes."""

from collections.abc import Mapping
from typing import Any

from gfx.errors import RecipeError, did_you_mean
from gfx.io.plain_data import shown
from gfx.train.named_kinds import installed_kinds, read_kind
from gfx.train.sampling.sampler import Sampler

__all__ = ["read_sampler", "samplers"]

GROUP = "gfx.samplers"


def samplers() -> dict[str, type[Sampler]]:
    """Returns all installed samplers by name.

    Raises: RegistryError if a plugin cannot be loaded, or two samplers share a name.

    Example:
        >>> sorted(samplers())
        ['sandwich', 'teacher', 'uniform']
    """
    return installed_kinds(GROUP, Sampler)


def read_sampler(data: Any) -> Sampler:
    """Reads `sample:`, the name of a sampler, or a mapping of it to its fields.

    Raises: RecipeError naming the sampler, what was expected and what was found.

    Example:
        >>> read_sampler({"sandwich": {"random": 2}})
        SandwichSampler(random=2, learn_from_largest=True)
    """
    given = {data: {}} if isinstance(data, str) else data
    if not isinstance(given, Mapping) or len(given) != 1:
        raise RecipeError(
            "sample: the name of a sampler is expected, or one with its fields, as "
            f"{{sandwich: {{random: 2}}}}, not {shown(data)}"
        )
    ((name, value),) = given.items()
    known = samplers()
    if name not in known:
        raise RecipeError(f"sample: unknown sampler {shown(name)}{did_you_mean(name, known)}")
    made: Sampler = read_kind(known[name], value, "sample")
    return made
