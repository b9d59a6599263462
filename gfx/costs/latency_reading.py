"""Defines latency meters, their readings, and when a reading meets a limit.

A search needs three things of a meter: to measure programs in turns, to predict the latency of a
program at other widths, and to name its machine. `gfx.deploy.latency.machine_meter` does this for
the machine at hand; to plan for another machine, pass a Meter of your own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["LatencyPredictor", "Meter", "Reading", "Verdict", "verdict"]

Verdict = Literal["met", "over", "unclear"]

STEADY = 0.03  # of a value: the relative error at which a measurement is exact enough
_HAIR = 1e-9  # of a limit: a rounding error is not above it
_SIGMAS = 1.96  # a median lies within as many of its ranks' deviations, 19 times out of 20


@dataclass(frozen=True)
class Reading:
    """Holds the milliseconds that one program took, round by round.

    Example:
        >>> Reading((4.0, 5.0, 9.0)).ms
        5.0
    """

    times: tuple[float, ...]  # rounds; other programs read with it took turns in the same ones

    @cached_property
    def ms(self) -> float:
        """The median."""
        return float(np.median(self.times))

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the true median lies, 19 times out of 20: two of the sorted times."""
        return _bounds(np.array(self.times))

    def beside(self, other: "Reading", ms: float) -> "Reading":
        """Rescales this reading as if another, read with it, took so many ms.

        Round by round, so that a machine that gets slower does not matter.

        Example:
            >>> Reading((2.0, 6.0, 2.0)).beside(Reading((4.0, 12.0, 4.0)), 8.0).times
            (4.0, 4.0, 4.0)
        """
        pairs = zip(self.times, other.times, strict=True)
        return Reading(tuple(ms * mine / theirs for mine, theirs in pairs))


class Differences(Protocol):
    """Predicts how much longer each form of one layer takes than the layer."""

    def differences(
        self, options: NDArray[np.int64], channels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Returns milliseconds, negative where a form is faster than the layer as it is.

        Args:
            options: (plans,), places in the list of forms; None in it is the layer as it is.
            channels: (3, plans): input channels, output channels, and weight.shape[1].

        Returns: (plans,)
        """


class LatencyPredictor(Protocol):
    """Predicts the latency of a program without building it, as `gfx.deploy.latency` does."""

    def predict(self, widths: Any) -> NDArray[np.float64]:
        """Returns milliseconds. Shapes: (configurations, free groups) -> (configurations,)."""

    def of_forms(self, layer: Any, forms: Sequence[Any]) -> Differences:
        """Predicts how much longer forms of a layer (a `gfx.ir.layers.Layer`) take than it."""


class Meter(Protocol):
    """Measures programs on one machine."""

    def read(
        self, programs: Sequence[Any], backend: str, threads: int | None, effort: int = 1
    ) -> list[Reading]:
        """Runs programs in turns and returns a reading of each; effort 2 takes more rounds.

        Raises: InputError if the backend is not installed.
        """

    def predictor(self, groups: Any, backend: str, threads: int | None) -> LatencyPredictor:
        """Returns a predictor of the groups' program at other widths; may measure layers for it."""

    def machine(self) -> str:
        """Names the machine, in a few words."""


def verdict(value: float, low: float, high: float, limit: float) -> Verdict:
    """Says whether a measured value keeps a limit.

    A value known within 3 % and not clearly above the limit meets it: the difference is noise.

    Example:
        >>> [verdict(10, low, high, 9.9) for low, high in ((9.9, 10.1), (9.95, 11), (8, 12))]
        ['met', 'over', 'unclear']
    """
    limit *= 1 + _HAIR
    if high <= limit:
        return "met"
    if low > limit:
        return "over"
    return "met" if (high - low) / 2 <= STEADY * value else "unclear"


def _bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    """Bounds the median of what values are drawn from, by their ranks (a binomial's)."""
    count = len(values)
    ordered = np.sort(values)
    reach = _SIGMAS * count**0.5 / 2
    low = max(int(np.floor((count - 1) / 2 - reach)), 0)
    return float(ordered[low]), float(ordered[count - 1 - low])
