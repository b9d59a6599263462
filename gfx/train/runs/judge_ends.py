"""Judges the largest and the smallest net of a supernet, each with moments of its own."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from gfx.errors import PreconditionError
from gfx.train.runs.evaluation import Evaluation, Judged
from gfx.train.supernet import Supernet

__all__ = ["judge_ends"]

_BATCHES = 8  # that moments are pooled over


def judge_ends(net: Supernet, judge: Evaluation, inputs: Iterable[Any]) -> tuple[Judged, Judged]:
    """Returns what the largest net and the smallest are judged as.

    The moments of the largest become those that its file has; widths stay what they were.
    """
    before = net.current
    net.forget_moments()
    found = []
    for widths in (net.smallest(), net.largest()):
        net.set(widths)
        if net.has_moments:
            with suppress(PreconditionError):  # a norm that is called twice has no own moments
                net.calibrate(inputs, batches=_BATCHES)
        found.append(judge.judge(net))
    net.share_moments()
    net.forget_moments()
    net.set(before)
    return found[1], found[0]
