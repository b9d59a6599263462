"""Finds installed samplers by the entry point `gfx.samplers`, and reads `sample:` of recipes."""

from typing import Any

from gfx.train.named_kinds import installed_kinds, read_named
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
    known = samplers()
    made: Sampler = read_named(known, data, "sample", "sampler", "{sandwich: {random: 2}}")
    return made
