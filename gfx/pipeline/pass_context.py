"""Resolves a pass in its context: fills its seed and its budgets from the recipe; names it."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gfx.contract import Context, Pass
from gfx.errors import GfxError, VerificationError, prefixed
from gfx.planning import absolute

__all__ = ["named", "resolve"]


@contextmanager
def named(pass_: Pass, step: str) -> Iterator[None]:
    """Names the pass in whatever is raised inside, in one sentence; `step` is what it was asked.

    Raises: VerificationError, from the exception itself, where it is none of gfx's.

    Example:
        >>> from passes.channel_prune import ChannelPrune
        >>> with named(ChannelPrune(ratio=0.5), "apply"):
        ...     raise KeyError("conv1")
        Traceback (most recent call last):
            ...
        gfx.errors.VerificationError: channel_prune: apply raised KeyError: 'conv1' ...
    """
    with prefixed(pass_.name):
        try:
            yield
        except GfxError:
            raise
        except Exception as error:  # anyone's code
            kind = type(pass_)
            text = (str(error).strip().splitlines() or [""])[0]
            said = f"{type(error).__name__}: {text}" if text else type(error).__name__
            raise VerificationError(
                f"{pass_.name}: {step} raised {said}{_place(error)}; the pass is "
                f"{kind.__module__}.{kind.__qualname__}: ask its author, or leave it out; the "
                "model is unchanged"
            ) from error


def _place(error: BaseException) -> str:
    """Says in which line of which file an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"


def resolve(pass_: Pass, context: Context) -> Pass:
    """Fills the seed and the budgets of a pass that are not given, from the context.

    Budgets are filled if the pass takes them, with limits on latency resolved into milliseconds;
    the pass's own limits too.

    Example:
        >>> from passes.channel_prune import ChannelPrune
        >>> resolve(ChannelPrune(ratio=0.5), Context(seed=3)).seed
        3
    """
    names = {f.name for f in dataclasses.fields(pass_)}
    own = absolute(pass_.own_budgets, context.meter)
    budgets = own or (context.budgets if pass_.takes_budget else ())
    given: dict[str, object] = {}
    if "seed" in names and getattr(pass_, "seed", None) is None:
        given["seed"] = context.seed
    if "budget" in names and budgets:
        given["budget"] = budgets
    if not given:
        return pass_
    with named(pass_, "__post_init__"):
        return replace(pass_, **given)
