"""Puts the channels of every group in the order of their importance, the most important first.

Before   y = conv2(relu(norm(conv1(x))))        conv1: channels a b c d
After    y = conv2'(relu(norm'(conv1'(x))))     conv1': channels c a d b, and all that reads them
Source   Cai et al. 2020, arXiv:1908.09791, section 3 (once-for-all: channels are sorted by their L1
         norm, so that a narrower layer is the first channels of a wider one).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from gfx.compression.importance import Importance, Reduce, needs_data, rank
from gfx.compression.selection import Selection, candidates
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.coupling import Groups, analyse
from gfx.coupling.channel_slots import movable
from gfx.coupling.reorder_channels import reorder
from gfx.errors import MOST, RecipeError, check_range, prefixed
from gfx.ir.program import Program

__all__ = ["SortChannels"]


@dataclass(frozen=True)
class SortChannels(Pass):
    """Changes the order of the channels of every free group; the function stays what it is.

    The first channels are then those that `channel_prune` would keep, with the same `importance`.

    1. All tensors that a group reaches into are put in the new order together: weights that write
       or read it, biases, norms and their statistics, embeddings, masks.
    2. What goes together moves together: a group of a GroupNorm, an index of all heads, what a
       pixel shuffle makes one channel of.
    3. A group whose channels cannot change places is skipped: one whose positions meet in another
       order in one channel than in another, or for whose channels numbers are drawn at random.
    4. Of channels that are as important as each other, the first stays first.

    Shapes: every tensor keeps its own.
    Cost: none.

    Example:
        >>> import gfx, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1))
        >>> _ = nn.init.zeros_(model[0].weight.data[:2])
        >>> small = gfx.apply({"passes": ["sort_channels"]}, model, torch.zeros(1, 3, 8, 8))
        >>> small.get_submodule("0").weight.abs().sum((1, 2, 3)).gt(0).tolist()
        [True, True, False, False]
    """

    name: ClassVar[str] = "sort_channels"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    importance: Importance = "l1"
    reduce: Reduce = "mean"  # combines the scores of a channel from all layers of its group
    targets: tuple[str, ...] = ("*",)  # globs over modules whose output channels may move
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # group: its new order
    batches: int = 8  # of the data, or of noise, if the importance runs the program
    seed: int | None = None  # of all random numbers; None: the recipe's

    def __post_init__(self) -> None:
        with prefixed(self.name):
            check_range("batches", self.batches, at_least=1, at_most=MOST)
            for name, order in self.orders.items():
                if sorted(order) != list(range(len(order))):
                    raise RecipeError(
                        f"orders[{name}] must name each channel from 0 to {len(order) - 1} once"
                    )

    @property
    def needs_data(self) -> bool:
        """Whether the importance needs the user's data."""
        return needs_data(self.importance) and not self.orders

    def apply(self, program: Program, context: Context) -> Outcome:
        """Sorts the channels, and reports the order of each group."""
        outcome = Outcome()
        groups = analyse(program, unions=True)
        orders = self._given(groups) if self.orders else self._ranked(groups, context, outcome)
        orders = {n: o for n, o in orders.items() if list(o) != list(range(len(o)))}
        reorder(program, groups, orders)
        for name, order in orders.items():
            outcome.change(name, "order of channels", None, list(order))
        if orders:
            outcome.resolved = replace(self, orders=orders)
        else:
            outcome.details["note"] = "every group that may be sorted is in order"
        return outcome

    def _given(self, groups: Groups) -> dict[str, tuple[int, ...]]:
        """Checks the orders that were given."""
        stays, sizes = movable(groups), {group.name: group.size for group in groups.free}
        for name, order in self.orders.items():
            if name not in sizes:
                known = ", ".join(sizes) or "none"
                raise RecipeError(f"{self.name}: orders: no free group is called {name}: {known}")
            if len(order) != sizes[name]:
                raise RecipeError(
                    f"{self.name}: orders[{name}] has {len(order)} channels, the group "
                    f"{sizes[name]}"
                )
            if stays[name]:
                raise RecipeError(f"{self.name}: orders[{name}]: {stays[name]}")
        return dict(self.orders)

    def _ranked(
        self, groups: Groups, context: Context, outcome: Outcome
    ) -> dict[str, tuple[int, ...]]:
        """Ranks the channels of the groups that may be sorted."""
        among, _, skipped = candidates(groups, {"targets": self.targets})
        stays = movable(groups)
        skipped += [(group.name, stays[group.name]) for group in among if stays[group.name]]
        outcome.skips += [Skip(*skip) for skip in skipped]
        among = tuple(group for group in among if not stays[group.name])
        given = context.of(self)
        ranked = rank(
            groups, among, self.importance, reduce=self.reduce,
            seed=given.seed, data=given.data, batches=self.batches,
        )  # fmt: skip
        going = Selection(groups, among, ranked).order
        return {name: tuple(np.flip(order).tolist()) for name, order in going.items()}
