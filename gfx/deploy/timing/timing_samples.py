"""Holds a sample of measured times: quantiles, and whether it is steady enough to use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gfx.costs import human
from gfx.errors import TimingError
from gfx.ir.ambient_modes import shielded

__all__ = ["TimingSample", "demand_steady"]

_STEADY = 0.1  # share of the median; a median known less well is noise
_CONFIDENCE = 0.95


@shielded
@dataclass(frozen=True, eq=False)
class TimingSample:
    """Times of one runner, one for each round.

    Units: seconds.

    Example:
        >>> sample = TimingSample([0.010, 0.011, 0.010, 0.012, 0.010])
        >>> sample.median, sample.noisy
        (0.01, False)
    """

    times: npt.NDArray[np.float64]

    def __init__(self, times: "Sequence[float] | npt.NDArray[np.float64]") -> None:
        object.__setattr__(self, "times", np.asarray(times, dtype=np.float64))

    @property
    def median(self) -> float:
        """The middle time."""
        return float(np.median(self.times))

    @property
    def mean(self) -> float:
        """The mean time, as papers report it; a few slow rounds move it."""
        return float(np.mean(self.times))

    @property
    def p10(self) -> float:
        """The time that a tenth of the rounds stay under."""
        return float(np.quantile(self.times, 0.1))

    @property
    def p90(self) -> float:
        """The time that nine tenths of the rounds stay under."""
        return float(np.quantile(self.times, 0.9))

    @property
    def spread(self) -> float:
        """How far p10 and p90 are apart, as a share of the median."""
        return (self.p90 - self.p10) / self.median if self.median > 0 else 0.0

    @property
    def error(self) -> float:
        """How well the median is known: half its 95 % interval, as a share of it.

        The interval is between two of the sorted times, whatever their distribution; of fewer than
        six times it is all of them.
        """
        ordered, count = np.sort(self.times), len(self.times)
        rank = _rank(count)
        low, high = float(ordered[rank]), float(ordered[count - 1 - rank])
        return (high - low) / 2 / self.median if self.median > 0 else 0.0

    @property
    def noisy(self) -> bool:
        """Whether the median is known to no better than a tenth of itself."""
        return self.error > _STEADY

    def noise(self) -> str:
        """Says in numbers how steady the times were.

        Example:
            >>> TimingSample([0.010, 0.010, 0.010]).noise()
            'median 10 ms ± 0 %, p10 10 ms, p90 10 ms over 3 rounds'
        """
        middle, low, high = (human(1e3 * t, "ms") for t in (self.median, self.p10, self.p90))
        known = f"median {middle} ± {100 * self.error:.0f} %"
        return f"{known}, p10 {low}, p90 {high} over {len(self.times)} rounds"

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures and all times as plain data.

        Units: milliseconds; spread and error are shares of the median.

        Example:
            >>> TimingSample([0.010, 0.010]).to_dict()["median"]
            10.0
        """
        figures = {name: 1e3 * getattr(self, name) for name in ("median", "mean", "p10", "p90")}
        known = {"spread": self.spread, "error": self.error, "noisy": self.noisy}
        return {**figures, **known, "rounds": (1e3 * self.times).tolist()}


def demand_steady(sample: TimingSample, what: str) -> None:
    """Checks that a sample is steady enough to act on; `what` names what was timed.

    Raises: TimingError, with the numbers, if it is noisy.

    Example:
        >>> demand_steady(TimingSample([0.010, 0.010, 0.011]), "the original")
    """
    if sample.noisy:
        raise TimingError(
            f"this machine is too noisy to time {what}: {sample.noise()}, and the median must be "
            f"known to ± {100 * _STEADY:.0f} %; stop what else runs, or take more rounds"
        )


def _rank(count: int) -> int:
    """Returns how many sorted times lie outside of the median's interval on each side."""
    tail, rank = 0.0, -1
    while rank + 1 < count / 2:
        tail += math.comb(count, rank + 1) / 2**count
        if tail > (1 - _CONFIDENCE) / 2:
            break
        rank += 1
    return max(rank, 0)
