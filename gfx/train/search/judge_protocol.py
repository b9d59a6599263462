"""Defines what a search asks of a judge, and what a judge says.

1. A judge sees the same examples for every net, in the same order: the first n of them, whatever
   else it judges. Noise and latents belong to the example.
2. What it says is a function of the net and of n alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gfx.train.supernet import Assignment

__all__ = ["Judge", "Judgement", "Widths"]

Widths = Assignment  # of groups, in channels, and the options of other choices


@dataclass(frozen=True)
class Judgement:
    """What judging a net found.

    `each` holds the value on each example, of metrics that are a mean over examples; of others, as
    distances of sets, it is empty. `pseudo` then holds jackknife pseudo-values, each of a group of
    examples that is the same for all nets; () if there are none. `error` is the standard error of
    the value; 0: not known.

    Example:
        >>> Judgement(0.25, examples=2, each=(0.2, 0.3)).value
        0.25
    """

    value: float  # of the score that is searched by
    error: float = 0.0
    examples: int = 0
    each: tuple[float, ...] = ()
    pseudo: tuple[float, ...] = ()


class Judge(Protocol):
    """Judges nets by one score (rules 1 and 2)."""

    @property
    def score(self) -> str:
        """The name of the metric, as `gfx.metrics` writes it."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value is a better net."""

    @property
    def examples(self) -> int:
        """How many examples there are."""

    def judge(self, nets: Sequence[Widths], examples: int | None = None) -> list[Judgement]:
        """Judges nets on the first of its examples; None: on all."""
