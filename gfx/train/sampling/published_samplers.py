"""Samplers of the papers, and the one that a supernet is trained by where nothing is said."""

from dataclasses import dataclass
from typing import ClassVar

from gfx.errors import check_range
from gfx.train.sampling.sampler import Elastic, SampledNet, Sampler

__all__ = ["SandwichSampler", "TeacherSampler", "UniformSampler"]


@dataclass(frozen=True)
class UniformSampler(Sampler):
    """One subnet a step, every width of a group as likely.

    With `ends` a share of the steps trains the largest net and as many the smallest.

    Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression), section 3.3.

    Example:
        >>> from gfx.train.sampling.sampler_registry import read_sampler
        >>> read_sampler("uniform").count
        1
    """

    name: ClassVar[str] = "uniform"

    ends: float = 0.0  # share of the steps for the largest, and again for the smallest; up to 0.5

    def __post_init__(self) -> None:
        check_range("uniform: ends", self.ends, at_least=0, at_most=0.5)

    @property
    def count(self) -> int:
        """One."""
        return 1

    def subnets(self, net: Elastic, seed: int, step: int) -> tuple[SampledNet, ...]:
        """Returns the subnet of a step; the ends come at even distances."""
        if _due(step, self.ends, 0.0):
            return (SampledNet(net.largest()),)
        if _due(step, self.ends, 0.5):
            return (SampledNet(net.smallest()),)
        return (SampledNet(net.sample(seed, step)),)


@dataclass(frozen=True)
class SandwichSampler(Sampler):
    """The largest net, the smallest and some at random, in every step.

    All but the largest learn from its images, unless `learn_from_largest` is false.

    Source: Yu and Huang 2019, arXiv:1903.05134 (universally slimmable networks), section 3.

    Example:
        >>> from gfx.train.sampling.sampler_registry import read_sampler
        >>> read_sampler({"sandwich": {"random": 2}}).count
        4
    """

    name: ClassVar[str] = "sandwich"

    random: int = 1
    learn_from_largest: bool = True

    def __post_init__(self) -> None:
        check_range("sandwich: random", self.random, at_least=0, at_most=64)

    @property
    def count(self) -> int:
        """The ends and the random ones."""
        return 2 + self.random

    def subnets(self, net: Elastic, seed: int, step: int) -> tuple[SampledNet, ...]:
        """Returns the largest, the smallest, and the random ones."""
        drawn = [net.sample(seed, step * self.random + i) for i in range(self.random)]
        learns = self.learn_from_largest
        rest = [SampledNet(widths, from_largest=learns) for widths in (net.smallest(), *drawn)]
        return (SampledNet(net.largest()), *rest)


@dataclass(frozen=True)
class TeacherSampler(Sampler):
    """The smallest net and a random one in every step, and the largest in every fourth.

    All learn from frozen teachers and the truth. The discriminator sees one of them a step, in
    turn: the largest where there is one, else the random one and the smallest by turns. A step then
    costs little more than one of the largest net.

    Example:
        >>> from gfx.train.sampling.sampler_registry import read_sampler
        >>> read_sampler("teacher").largest_every
        4
    """

    name: ClassVar[str] = "teacher"

    largest_every: int = 4  # steps
    judge_all: bool = False  # whether the discriminator sees all nets of a step

    def __post_init__(self) -> None:
        check_range("teacher: largest_every", self.largest_every, at_least=1)

    def subnets(self, net: Elastic, seed: int, step: int) -> tuple[SampledNet, ...]:
        """Returns the nets of a step."""
        ends = [net.smallest()]
        if step % self.largest_every == 0:
            ends.insert(0, net.largest())
        nets = [*ends, net.sample(seed, step)]
        turn = 0 if step % self.largest_every == 0 else len(nets) - 1 - (step + 1) % 2
        return tuple(SampledNet(each, self.judge_all or i == turn) for i, each in enumerate(nets))


def _due(step: int, share: float, phase: float) -> bool:
    """Whether a step is one of those that are due at a share of all steps, evenly spread."""
    return int((step + 1) * share + phase) > int(step * share + phase)
