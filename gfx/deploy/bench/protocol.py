"""Sets how often models are run: as long as needed to decide, or as in a paper."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gfx.deploy.timing import Runner, TimingSample, interleaved, seconds
from gfx.deploy.timing.interleave import Action, Clock
from gfx.errors import MOST, InputError

__all__ = ["PROTOCOLS", "TimingProtocol", "protocol_of", "timed"]

_FEWEST, _MOST = 11, 100  # rounds if not given; odd: the median is one of them
_LEAST = 5  # rounds; fewer are not significant
_WARMUPS = 3
_PATIENCE = 20.0  # seconds for all rounds, if there are more than the fewest


@dataclass(frozen=True)
class TimingProtocol:
    """Numbers of warm-up and of timed calls; None rounds: as many as time allows.

    Example:
        >>> protocol_of("paper", None, None, batch=1)
        TimingProtocol(warmups=100, rounds=100)
    """

    warmups: int = _WARMUPS
    rounds: int | None = None


# Li et al. 2020 (GAN Compression, arXiv:2003.08936): its latencies are of batches of one image
PROTOCOLS = {"paper": TimingProtocol(warmups=100, rounds=100)}


def protocol_of(
    name: str | None, rounds: int | None, warmups: int | None, *, batch: int
) -> TimingProtocol:
    """Returns the protocol of a name, or the one that the numbers say.

    Raises: InputError if there is no such protocol, it is mixed with numbers or with a batch of
    more than one image, or the numbers are too low.
    """
    if name is None:
        _check(rounds, warmups)
        return TimingProtocol(_WARMUPS if warmups is None else warmups, rounds)
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown; there is {', '.join(PROTOCOLS)}")
    found = PROTOCOLS[name]
    if rounds is not None or warmups is not None:
        raise InputError(
            f"protocol {name} is {found.warmups} warm-ups and {found.rounds} rounds; leave out "
            "rounds and warmups, or the protocol"
        )
    if batch != 1:
        raise InputError(
            f"protocol {name} times one image and the inputs are a batch of {batch}; "
            "give inputs of batch 1"
        )
    return found


def timed(
    runners: Sequence[Runner | Action],
    protocol: TimingProtocol,
    *,
    clock: Clock = time.perf_counter,
) -> list[TimingSample]:
    """Times runners side by side by a protocol; one sample for each.

    Without a given number, the last warm-up determines how many rounds the time allows.
    """
    rounds = protocol.rounds
    warmups = protocol.warmups
    if rounds is None:
        for runner in runners:
            for _ in range(warmups - 1):
                runner()
        once = sum(seconds(runner, clock=clock) for runner in runners)
        rounds, warmups = _allowed(once), 0
    return interleaved(runners, rounds=rounds, warmups=warmups, clock=clock)


def _allowed(once: float) -> int:
    """Returns how many rounds of `once` seconds the time allows."""
    if once <= 0:
        return _MOST
    return min(max(math.floor(_PATIENCE / once), _FEWEST), _MOST)


def _check(rounds: int | None, warmups: int | None) -> None:
    if rounds is not None and rounds < _LEAST:
        raise InputError(
            f"rounds={rounds} is too few to tell noise from a difference; give {_LEAST} or more"
        )
    if warmups is not None and warmups < 0:
        raise InputError(f"warmups={warmups}: give 0 or more")
    for name, count in (("rounds", rounds), ("warmups", warmups)):
        if count is not None and count > MOST:
            raise InputError(f"{name}={count}: give {MOST:,} or fewer")
