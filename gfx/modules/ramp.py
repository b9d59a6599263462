"""The gradual schedule of Zhu and Gupta."""

from typing import NamedTuple

__all__ = ["Ramp"]


class Ramp(NamedTuple):
    """Says how a sparsity, or a threshold, rises over the steps of training.

    At step t between `begin` (t_0) and `end` (t_0 + n Δt)

        s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))³

    Before `begin` it is 0, from `end` on it is s_f. It is looked at every Δt steps, and at the end.
    With `begin` equal to `end` there is one step from 0 to s_f: pruning in one shot.

    Source: Zhu and Gupta 2017, arXiv:1710.01878, equation 1.

    Example:
        >>> ramp = Ramp(initial=0.0, final=0.5, begin=0, end=100, every=50)
        >>> [ramp.at(step) for step in (0, 50, 100, 101)]
        [0.0, 0.4375, 0.5, 0.5]
        >>> [step for step in range(120) if ramp.due(step)]
        [0, 50, 100]
    """

    initial: float = 0.0  # s_i
    final: float = 0.5  # s_f
    begin: int = 0  # t_0, steps
    end: int = 1000  # t_0 + n Δt, steps
    every: int = 10  # Δt, steps

    def at(self, step: int) -> float:
        """Returns s_t."""
        if step < self.begin:
            return 0.0
        if step >= self.end:
            return self.final
        left = 1 - (step - self.begin) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * left**3

    def due(self, step: int) -> bool:
        """Whether the masks are to be made anew at this step."""
        if not self.begin <= step <= self.end:
            return False
        return step == self.end or (step - self.begin) % self.every == 0
