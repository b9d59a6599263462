"""The front of a search: the nets that none is both cheaper and better than, judged again.

1. Nets are chosen by what they cost and by the examples that were searched on, at most twelve,
   spread over the cost. A value that was chosen for being good is too good: each of them is judged
   again on fresh examples, and that value is reported.
2. Each pair is compared on the same examples; the bounds of all pairs hold together at 95 %. What
   lies within them is called noise. If no pair differs by more, the front cannot tell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from gfx.costs import Cost, Macs, human, parse_budget
from gfx.errors import InputError, RecipeError, did_you_mean
from gfx.io.plain_data import shown
from gfx.train.search.judge_protocol import Judge, Judgement
from gfx.train.search.paired_intervals import PairedDifference, interval, paired_difference
from gfx.train.supernet import Assignment

__all__ = [
    "Front",
    "FrontNet",
    "SearchedNet",
    "chosen_nets",
    "cost_of_prices",
    "make_front",
    "pick",
]

MOST = 12  # nets of a front
MEASURES = ("exact", "output", "output_norm", "params", "param_bytes", "peak_activation_bytes")


@dataclass(frozen=True)
class SearchedNet:
    """A net that a search judged: `prices` as `Supernet.price` names them.

    A value of fewer examples than others have is an estimate: such a net is drawn, and not chosen.
    """

    widths: Assignment
    prices: Mapping[str, int]
    value: float
    examples: int = 0


@dataclass(frozen=True)
class FrontNet:
    """A net of the front, judged again.

    `better` is what it is better by than the net before it, which is cheaper, with bounds; empty of
    the first. `file`, `sha256` and `picture` are those in the folder of the search.
    """

    widths: Assignment
    prices: Mapping[str, int]
    value: float  # on fresh examples
    low: float  # within which bounds the value is known, alone
    high: float
    searched: float  # on the examples that were searched on
    better: tuple[float, ...] = ()  # difference, low, high; above 0: better than the one before
    file: str = ""
    sha256: str = ""
    picture: str = ""

    @property
    def verdict(self) -> str:
        """Says how the net stands to the one before it."""
        if not self.better:
            return "the cheapest"
        _, low, high = self.better
        if low > 0:
            return "better than the one before"
        return "worse than the one before" if high < 0 else "within the noise of the one before"


@dataclass(frozen=True)
class Front:
    """The nets of a front in the order of cost, and all that was judged.

    Example:
        >>> net = FrontNet({"a": 8}, dict.fromkeys(MEASURES, 10), 0.5, 0.4, 0.6, 0.5)
        >>> front = Front("l1", False, "exact", 20, 40, (net,), net, (), False)
        >>> pick(front, "macs=20").widths
        {'a': 8}
    """

    score: str
    higher_is_better: bool
    measure: str  # the cost of the picture, one of MEASURES
    examples: int  # fresh ones, that the front is judged on
    searched_examples: int
    nets: tuple[FrontNet, ...]
    whole: FrontNet  # the largest net, for comparison
    searched: tuple[SearchedNet, ...]
    told: bool  # whether any two nets differ by more than noise
    judged: int = 0  # nets, also those that were beyond the budgets
    finished: bool = True  # whether these are all that were asked for
    about: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Says what the front can tell."""
        count = len(self.nets)
        if count < 2:
            return f"the front is one net, judged on {self.examples} fresh examples"
        if not self.told:
            return (
                f"cannot tell these {count} nets apart: on {self.examples} fresh examples no two "
                f"differ in {self.score} by more than noise; take the cheapest, or judge on more"
            )
        noisy = sum("noise" in net.verdict for net in self.nets)
        among = f"; {noisy} within the noise of the one before" if noisy else ""
        return f"{count} nets, judged again on {self.examples} fresh examples{among}"


def chosen_nets(
    found: Sequence[SearchedNet], measure: str, *, higher_is_better: bool, most: int = MOST
) -> list[SearchedNet]:
    """Chooses the nets that no other is both cheaper and better than (rule 1), by cost.

    Example:
        >>> nets = [SearchedNet({"a": n}, {"exact": n}, v) for n, v in ((1, 3), (2, 4), (3, 1))]
        >>> [net.prices["exact"] for net in chosen_nets(nets, "exact", higher_is_better=False)]
        [1, 3]
    """
    sign = -1 if higher_is_better else 1
    best, front = math.inf, list[SearchedNet]()
    full = max((net.examples for net in found), default=0)
    finite = [net for net in found if net.examples == full and not math.isnan(net.value)]
    for net in sorted(finite, key=lambda net: (net.prices[measure], sign * net.value)):
        if sign * net.value < best:
            best = sign * net.value
            front.append(net)
    if len(front) <= most:
        return front
    costs = [math.log(max(net.prices[measure], 1)) for net in front]
    places = {0, len(front) - 1}
    for step in range(1, most - 1):
        aim = costs[0] + (costs[-1] - costs[0]) * step / (most - 1)
        left = [i for i in range(len(front)) if i not in places]
        places.add(min(left, key=lambda i, aim=aim: abs(costs[i] - aim)))  # type: ignore[misc]
    return [front[i] for i in sorted(places)]


def make_front(
    found: Sequence[SearchedNet],
    judge: Judge,
    whole: SearchedNet,
    *,
    measure: str = "exact",
    searched_examples: int = 0,
    judged: int | None = None,
    finished: bool = True,
    about: Sequence[str] = (),
    most: int = MOST,
) -> Front:
    """Judges the best nets of a search again, on the fresh examples of `judge` (rules 1 and 2).

    Args:
        found: all that the search judged.
        judge: of fresh examples.
        whole: the largest net.
        measure: the cost, as `Supernet.price` names it.
        searched_examples: how many examples the search judged on.
        judged: how many nets it judged; None: as many as are `found`.
        finished: whether these are all that were asked for.
        about: what was assumed, in sentences.
        most: how many nets.

    Raises: InputError if the search has judged no net.
    """
    chosen = chosen_nets(found, measure, higher_is_better=judge.higher_is_better, most=most)
    if not chosen:
        raise InputError(
            "the search has judged no net within the budgets; give it more time, or evaluations"
        )
    *again, of_whole = judge.judge([*(net.widths for net in chosen), whole.widths])
    pairs = len(chosen) * (len(chosen) - 1) // 2
    apart = {
        (a, b): _better(again[b], again[a], judge.higher_is_better, pairs)
        for a, b in combinations(range(len(chosen)), 2)
    }
    nets = []
    for place, (net, found_) in enumerate(zip(chosen, again, strict=True)):
        before = apart.get((place - 1, place))
        better = () if before is None else (before.value, before.low, before.high)
        nets.append(_net(net, found_, better))
    return Front(
        score=judge.score,
        higher_is_better=judge.higher_is_better,
        measure=measure,
        examples=judge.examples,
        searched_examples=searched_examples,
        nets=tuple(nets),
        whole=_net(whole, of_whole, ()),
        searched=tuple(found),
        told=any(each.told for each in apart.values()),
        judged=len(found) if judged is None else judged,
        finished=finished,
        about=tuple(about),
    )


def pick(front: Front, limit: str) -> FrontNet:
    """Returns the best net within a limit: of a cost, or the cheapest that is as good as a value.

    Args:
        front: the front.
        limit: "macs=2.67G", "params=0.5" (of the largest net), or with the score "l1=0.05".

    Raises: InputError that says what there is.
    """
    name, equals, text = limit.rpartition("=")
    name = name.strip() if equals else "macs"
    if name == front.score:
        return _as_good(front, text)
    try:
        (budget,) = parse_budget({name: text.strip()}, cost_of_prices(front.whole.prices))
    except RecipeError as error:
        hint = did_you_mean(name, (front.score,), f"or {front.score}=VALUE")
        raise InputError(f"pick {shown(limit)}: {error}{hint}") from error
    if budget.timed:
        raise InputError(
            f"pick {shown(limit)}: a front holds no measured latency; give macs, params, "
            "param_bytes or peak_activation_bytes"
        )
    within = [net for net in front.nets if budget.kept(cost_of_prices(net.prices))]
    if not within:
        least = min(budget.value(cost_of_prices(net.prices)) for net in front.nets)
        raise InputError(
            f"pick {shown(limit)}: no net of the front is within {budget.name} "
            f"{budget.said(budget.limit)}; the least is {budget.said(least)}. There are: "
            f"{_listed(front)}"
        )
    sign = -1 if front.higher_is_better else 1
    return min(within, key=lambda net: (sign * net.value, budget.value(cost_of_prices(net.prices))))


def cost_of_prices(prices: Mapping[str, int]) -> Cost:
    """Returns prices as a cost, without rows for nodes."""
    macs = Macs(prices["exact"], prices["output"], prices["output_norm"])
    params, stored, peak = (int(prices[name]) for name in MEASURES[3:])
    return Cost(macs, params, stored, peak)


def _as_good(front: Front, text: str) -> FrontNet:
    """Returns the cheapest net that is as good as a value."""
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(
            f"pick: {front.score}={text} is no number; give one, such as "
            f"{front.score}={front.nets[0].value:.3g}"
        ) from error
    sign = -1 if front.higher_is_better else 1
    good = [net for net in front.nets if sign * net.value <= sign * value]
    if not good:
        raise InputError(
            f"pick: no net of the front has {front.score} {'≥' if sign < 0 else '≤'} {value:g}. "
            f"There are: {_listed(front)}"
        )
    return min(good, key=lambda net: net.prices[front.measure])


def _listed(front: Front) -> str:
    """Lists the nets of a front, in short."""
    return ", ".join(
        f"{human(net.prices['exact'])} MACs ({front.score} {net.value:.3g})" for net in front.nets
    )


def _better(one: Judgement, other: Judgement, higher: bool, pairs: int) -> PairedDifference:
    """Returns what one is better by than the other."""
    return paired_difference(one, other, pairs) if higher else paired_difference(other, one, pairs)


def _net(net: SearchedNet, again: Judgement, better: tuple[float, ...]) -> FrontNet:
    counted = len(again.each) or len(again.pseudo) or again.examples
    around = interval(again.error, counted) if again.error else 0.0
    prices: dict[str, Any] = {name: int(value) for name, value in net.prices.items()}
    return FrontNet(
        dict(net.widths),
        prices,
        again.value,
        again.value - around,
        again.value + around,
        net.value,
        better,
    )
