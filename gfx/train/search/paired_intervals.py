"""Compares two nets on the same examples: the difference, and within which bounds it is known.

Nets that are judged on the same examples share most of their spread: the difference of each example
varies far less than the values do. Of many comparisons each has wider bounds (Bonferroni), so that
all of them hold together.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from gfx.train.search.judge_protocol import Judgement
from gfx.train.search.judged_examples import standard_error

__all__ = ["PairedDifference", "interval", "paired_difference"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """What one value exceeds another by, and the bounds of that.

    Example:
        >>> PairedDifference(1.0, 0.5, 1.5).told, PairedDifference(1.0, -0.5, 2.5).told
        (True, False)
    """

    value: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether the two differ by more than noise."""
        return self.low > 0 or self.high < 0


def paired_difference(one: Judgement, other: Judgement, comparisons: int = 1) -> PairedDifference:
    """Returns what `one` exceeds `other` by; `comparisons` is how many are made in all.

    Values on the same examples are paired, else pseudo-values of the same groups; without either,
    the errors of both are added as if they were independent. Of what has no error nothing is known.

    Example:
        >>> a = Judgement(2.0, 1.0, 3, (1.0, 2.0, 3.0))
        >>> b = Judgement(1.0, 1.0, 3, (0.0, 1.0, 2.0))
        >>> paired_difference(a, b)
        PairedDifference(value=1.0, low=1.0, high=1.0)
    """
    value = one.value - other.value
    if one.value == other.value:
        value = 0.0  # of two that are infinite too
    pairs = list(zip(one.each, other.each, strict=False)) or list(
        zip(one.pseudo, other.pseudo, strict=False)
    )
    alike = one.examples == other.examples and len(one.each) == len(other.each)
    if alike and len(pairs) >= 2:
        apart = [0.0 if a == b else a - b for a, b in pairs]
        if not all(map(math.isfinite, apart)):
            return PairedDifference(value, -math.inf, math.inf)
        around = interval(standard_error(apart), len(apart), comparisons)
    elif one.error and other.error:
        count = min(one.examples, other.examples)
        around = interval(math.hypot(one.error, other.error), count, comparisons)
    else:
        around = math.inf
    return PairedDifference(value, value - around, value + around)


def interval(error: float, count: int, comparisons: int = 1) -> float:
    """Returns half the width of a 95 % interval around a mean of `count` values.

    The quantile of Student's t is expanded about the normal one.

    Source: Abramowitz and Stegun 1964, equation 26.7.5.

    Example:
        >>> round(interval(1.0, 11), 2), round(interval(1.0, 10**9), 2), interval(1.0, 1)
        (2.23, 1.96, inf)
    """
    if count < 2:
        return math.inf
    z = NormalDist().inv_cdf(1 - (1 - _CONFIDENCE) / (2 * max(comparisons, 1)))
    n = count - 1
    t = (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
    return t * error
