"""Defines samplers: which subnets of a supernet one step trains, and what each learns from.

1. The subnets are a function of (seed, step) alone: equal in every process, and after a resume.
2. All of them run in one step, before any weight changes; their gradients are averaged.
3. `judged` are those that go through the discriminator, for its step and for the generator's alike:
   both players see the same subnets.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

__all__ = ["Elastic", "SampledNet", "Sampler"]


class Elastic(Protocol):
    """What a sampler asks of a supernet."""

    def largest(self) -> dict[str, int]:
        """Returns the largest width of every group."""

    def smallest(self) -> dict[str, int]:
        """Returns the smallest width of every group."""

    def sample(self, seed: int, step: int) -> dict[str, int]:
        """Draws a width for every group."""


@dataclass(frozen=True)
class SampledNet:
    """One subnet of a step.

    `judged`: its images go through the discriminator (rule 3). `from_largest`: it is compared with
    the images of the largest net of the step, in place of the truth and of the teachers' images.
    """

    widths: Mapping[str, int]
    judged: bool = True
    from_largest: bool = False


@dataclass(frozen=True)
class Sampler(ABC):
    """Draws the subnets of a step; its fields are what a recipe may say."""

    name: ClassVar[str]  # in recipes
    word: ClassVar[str] = ""  # the field that a bare word sets

    @property
    def count(self) -> int | None:
        """How many subnets a step has; None: not as many in each."""
        return None

    @abstractmethod
    def subnets(self, net: Elastic, seed: int, step: int) -> tuple[SampledNet, ...]:
        """Returns the subnets of a step, at least one (rule 1); the largest comes first."""

    def spec(self) -> dict[str, Any]:
        """Returns the fields, with every default."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
