"""Defines a figure of quality, with all that it depends on."""

from dataclasses import dataclass

__all__ = ["Score"]


@dataclass(frozen=True)
class Score:
    """Holds the value of a metric and what it was measured on.

    Example:
        >>> print(Score("fd[efficientnet_lite0]", 190.31, False, fakes=200, reals=1800))
        fd[efficientnet_lite0] 190.3 (200 fakes, 1,800 real)
        >>> print(Score("l1", 0.14431, False, fakes=200))
        l1 0.1443 (200 images)
    """

    metric: str  # as it was asked for
    value: float
    higher_is_better: bool
    fakes: int  # images that were judged
    reals: int | None = None  # real images, of a distance between sets
    features: str | None = None  # what the distance between sets is measured in
    spread: float | None = None  # standard deviation over subsets, of a kernel distance
    seed: int | None = None  # of the draws: of the subsets, where there are some

    def better(self, other: "Score") -> bool:
        """Whether this value is better than another of the same metric.

        Example:
            >>> Score("l1", 0.1, False, 2).better(Score("l1", 0.2, False, 2))
            True
        """
        if self.higher_is_better:
            return self.value > other.value
        return self.value < other.value

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.2g}"
        counts = f"{self.fakes:,} images"
        if self.reals is not None:
            counts = f"{self.fakes:,} fakes, {self.reals:,} real"
        value = f"{self.value:,.1f}" if abs(self.value) >= 100 else f"{self.value:#.4g}"
        return f"{self.metric} {value}{spread} ({counts})"
