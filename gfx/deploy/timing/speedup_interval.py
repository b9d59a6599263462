"""Computes the speed-up of one program over another, with a confidence interval.

The rounds are paired: both ran within moments of each other, so a slow phase of the machine is in
both. A speed-up is the median over the rounds of time before / time after; its interval is the
bootstrap's (Efron 1979, doi:10.1214/aos/1176344552): the same on rounds drawn with
replacement.
"""

from dataclasses import dataclass

import numpy as np

from gfx.deploy.timing.timing_samples import TimingSample
from gfx.errors import InputError

__all__ = ["Interval", "speedup"]

_DRAWS = 4000


@dataclass(frozen=True)
class Interval:
    """A ratio, and the interval that it lies in with a confidence of 95 %.

    Example:
        >>> print(Interval(1.5, 1.25, 1.75))
        1.50x (1.25 to 1.75)
    """

    value: float
    low: float
    high: float

    def decided(self, margin: float = 0.0) -> bool:
        """Whether the interval says that one is faster: it does not straddle 1.

        With a margin, the difference must also be larger than that share.

        Example:
            >>> Interval(1.1, 1.02, 1.2).decided(), Interval(1.1, 1.02, 1.2).decided(0.05)
            (True, False)
        """
        return self.low > 1 + margin or self.high < 1 / (1 + margin)

    def __str__(self) -> str:
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f})"


def speedup(
    before: TimingSample, after: TimingSample, *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Returns how many times faster `after` is, with a bootstrap interval over paired rounds.

    Swapping the two gives the reciprocal.

    Raises: InputError if the samples are of different numbers of rounds, or of none.

    Example:
        >>> speedup(TimingSample([2.0, 4.0, 2.0]), TimingSample([1.0, 2.0, 1.0]))
        Interval(value=2.0, low=2.0, high=2.0)
    """
    if len(before.times) != len(after.times) or not len(before.times):
        raise InputError(
            f"samples of {len(before.times)} and {len(after.times)} rounds are no pairs; "
            "time both in the same call of interleaved"
        )
    tick = np.finfo(np.float64).tiny  # a coarse timer may return zero
    ratios = np.log(np.maximum(before.times, tick)) - np.log(np.maximum(after.times, tick))
    draws = np.random.default_rng(seed).integers(len(ratios), size=(_DRAWS, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    value, low, high = (float(np.exp(x)) for x in (np.median(ratios), low, high))
    return Interval(value, low, high)
