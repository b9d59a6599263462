"""Computes the gradual sparsity schedule of Zhu and Gupta (arXiv:1710.01878)."""

from typing import Any, NamedTuple

__all__ = ["Ramp", "check_choice", "ramp_of"]


class Ramp(NamedTuple):
    """Raises a sparsity, or a threshold, over the steps of training.

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


def ramp_of(numbers: Any) -> Ramp:
    """Makes a ramp from five numbers.

    Raises: ValueError if they are none of a schedule.

    Example:
        >>> ramp_of((0.0, 0.5, 0, 100, 10)).final
        0.5
        >>> ramp_of((0.0, 0.5, 100, 0, 10))
        Traceback (most recent call last):
        ValueError: a schedule needs 0 ≤ begin ≤ end and every ≥ 1, not begin=100, end=0, every=10
    """
    ramp = Ramp(*numbers)
    if any(type(n) is not int for n in ramp[2:]) or not 0 <= ramp.begin <= ramp.end:
        raise ValueError(_wanted(ramp))
    if ramp.every < 1:
        raise ValueError(_wanted(ramp))
    for name, share in (("initial", ramp.initial), ("final", ramp.final)):
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise ValueError(f"a schedule needs 0 ≤ {name} ≤ 1, not {share!r}")
    return ramp


def _wanted(ramp: Ramp) -> str:
    given = f"begin={ramp.begin!r}, end={ramp.end!r}, every={ramp.every!r}"
    return f"a schedule needs 0 ≤ begin ≤ end and every ≥ 1, not {given}"


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Checks that a setting is one of the known choices.

    Raises: ValueError if it is none.

    Example:
        >>> check_choice("scope", "all", ("local", "global"))
        Traceback (most recent call last):
        ValueError: scope is one of local, global, not 'all'
    """
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
