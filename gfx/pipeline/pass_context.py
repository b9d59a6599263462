"""Resolves a pass in its context: fills its seed and its budgets from the recipe."""

import dataclasses
from dataclasses import replace

from gfx.contract import Context, Pass
from gfx.search import absolute

__all__ = ["resolve"]


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
    return replace(pass_, **given) if given else pass_
