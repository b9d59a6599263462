"""Defines a trial of a search: a subnet, its prices, and what a judge said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from gfx.train.search.judge_protocol import Judgement
from gfx.train.search.search_space import Row
from gfx.train.supernet import Assignment

__all__ = ["Trial"]


@dataclass(frozen=True)
class Trial:
    """One subnet of a search; `judgement` is None while it is judged.

    `loss` is its score, so that lower is better.
    """

    number: int  # in the order in which nets were claimed
    row: Row
    widths: Assignment = field(default_factory=dict)
    prices: Mapping[str, int] = field(default_factory=dict)
    judgement: Judgement | None = None
    higher_is_better: bool = False
    allowed: bool = True  # whether it keeps the budgets
    seed: int = 0
    worker: str = ""

    @property
    def known(self) -> bool:
        """Whether it is judged, and its score is a finite number."""
        return self.judgement is not None and isfinite(self.judgement.value)

    @property
    def loss(self) -> float:
        """The value of the score, turned so that lower is better."""
        assert self.judgement is not None
        return -self.judgement.value if self.higher_is_better else self.judgement.value
