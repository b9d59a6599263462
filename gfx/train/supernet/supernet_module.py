"""Runs a generator at many widths, on one set of weights.

Source: Cai et al. 2020, arXiv:1908.09791 (once-for-all); Li et al. 2020, arXiv:2003.08936, section
3.3 (GAN Compression: one subnet a step, its weights the first channels of the whole net's).
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gfx.compression.selection.width_choices import SUPERNET, Ties
from gfx.costs import Cost, Macs, cost_of
from gfx.costs.symbolic.pricing import Pricing
from gfx.coupling import analyse
from gfx.coupling.analysis import analyse_like
from gfx.coupling.removal import remove
from gfx.errors import InputError, did_you_mean
from gfx.io.data import batches_of
from gfx.ir.modules import without_content
from gfx.ir.program import Program
from gfx.train.supernet.kept_intervals import TensorPart
from gfx.train.supernet.partial_updates import keep_unused
from gfx.train.supernet.pooled_moments import Moments, pool_moments, tracks
from gfx.train.supernet.subnet_graph import KnownParts, SubnetGraph
from gfx.train.supernet.subnet_plan import SubnetPlan, plan_subnets

__all__ = ["Supernet", "TappedSupernet", "planned"]

Widths = Mapping[str, int]


class Supernet(nn.Module):
    """Runs a generator at any widths of its channel groups, on one set of weights.

    Its tensors are the generator's, by the same names: a state dict goes into the unmodified
    generator and back. Calling it runs the subnet of the widths that are set, the largest at first.
    A subnet uses the first channels of every group. Make it with `gfx.supernet`.

    `widths` lists the choices of every group, in channels of the layer that it is named after;
    `kept_whole` says why other groups have none.

    Example:
        >>> import gfx, torch
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> net.widths["project.conv"], net.set(net.smallest())["project.conv"]
        ((32, 64), 32)
        >>> net(torch.randn(2, 100, 1, 1)).shape, net.cost(net.current).params < net.cost().params
        (torch.Size([2, 3, 64, 64]), True)
    """

    _hidden: "_Hidden"
    widths: dict[str, tuple[int, ...]]

    def __init__(
        self,
        program: Program,
        plan: SubnetPlan,
        widths: Mapping[str, tuple[int, ...]],
        ties: Ties = (),
    ) -> None:
        super().__init__()
        # the same dictionaries: whatever moves or loads these tensors does so for the program
        for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            vars(self)[kind] = vars(program.module)[kind]
        self.training = program.module.training
        self.widths = {group.name: widths[group.name] for group in plan.elastic}
        self._given, self._ties = dict(widths), ties
        noted = {name: list(v) for name, v in self.widths.items()}
        program.module.meta[SUPERNET] = {"widths": noted, "together": [list(t) for t in ties]}
        vars(self)["_hidden"] = _Hidden(program, plan)
        self.set(self.largest())

    @property
    def program(self) -> Program:
        """The program of the largest net; it holds the supernet's own tensors."""
        self._hidden.program.module.training = self.training
        return self._hidden.program

    @property
    def kept_whole(self) -> dict[str, str]:
        """Why groups are not elastic, by their names."""
        return dict(self._hidden.plan.kept_whole)

    @property
    def current(self) -> dict[str, int]:
        """The widths that are set."""
        return dict(self._hidden.widths)

    @property
    def dimensions(self) -> tuple[tuple[str, ...], ...]:
        """The choices there are: each is of one group, or of groups that are chosen together."""
        tied = {name: tie for tie in self._ties for name in tie}
        known = dict.fromkeys(tied.get(name, (name,)) for name in self.widths)
        # what is kept whole has no part in a choice
        return tuple(tuple(n for n in names if n in self.widths) for names in known)

    def largest(self) -> dict[str, int]:
        """Returns the largest width of every group."""
        return {name: values[-1] for name, values in self.widths.items()}

    def smallest(self) -> dict[str, int]:
        """Returns the smallest width of every group."""
        return {name: values[0] for name, values in self.widths.items()}

    def sample(self, seed: int, step: int) -> dict[str, int]:
        """Draws a width for every group, each as likely; the same seed and step give the same.

        Groups that are chosen together have the same choice.

        Example:
            >>> import gfx
            >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
            >>> net.sample(0, 7) == net.sample(0, 7), net.sample(0, 7) == net.sample(0, 8)
            (True, False)
        """
        rng = np.random.default_rng([seed, step])
        drawn: dict[str, int] = {}
        for names in self.dimensions:
            number = int(rng.integers(len(self.widths[names[0]])))
            drawn |= {name: self.widths[name][number] for name in names}
        return {name: drawn[name] for name in self.widths}

    def set(self, widths: Widths | None = None) -> dict[str, int]:
        """Sets widths, of the groups that are given; the others are at their largest.

        Returns: the widths of all groups.
        Raises: InputError if a group or a width is none of `widths`.
        """
        found = self._full(widths or {})
        self._hidden.set(self, found)
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the subnet that is set."""
        return self._hidden.run(self, args, kwargs)

    def tapped(self) -> "TappedSupernet":
        """Returns what runs the subnet that is set, and returns `(y, {tap: feature})`.

        It has this supernet's tensors, as `gfx.tapped` has those of a program.

        Raises: InputError if the program has no taps.
        """
        return TappedSupernet(self)

    def running_layers(self, *, taps: bool = False) -> nn.Module:
        """Returns the layers that run a subnet; they are copies, without tensors of their own."""
        return self._hidden.graph(self, taps=taps).code

    def cost(self, widths: Widths | None = None) -> Cost:
        """Returns the cost of a subnet, without rows for its nodes; by default of the largest.

        It is that of the extracted net, to the last digit.
        """
        prices = {name: int(values[0]) for name, values in self.price([widths or {}]).items()}
        return Cost(
            Macs(prices["exact"], prices["output"], prices["output_norm"]),
            prices["params"], prices["param_bytes"], prices["peak_activation_bytes"],
        )  # fmt: skip

    def price(self, widths: list[Widths]) -> dict[str, Any]:
        """Prices many subnets at once, in every measure of `gfx.Cost`: an array for each.

        Example:
            >>> import gfx
            >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
            >>> net.price([net.largest(), net.smallest()])["params"].tolist()
            [146032, 62264]
        """
        pricing = self.pricing
        table = np.array([[group.size for group in pricing.groups]] * len(widths), dtype=np.int64)
        place = {group.name: i for i, group in enumerate(pricing.groups)}
        for row, wanted in zip(table, widths, strict=True):
            for name, width in self._full(wanted).items():
                row[place[name]] = width // pricing.groups[place[name]].takes[0]
        return dict(pricing.price(table))

    @property
    def pricing(self) -> Pricing:
        """What prices many subnets at once."""
        return self._hidden.pricing

    def extract(self, widths: Widths | None = None) -> fx.GraphModule:
        """Returns the subnet of some widths as a generator of its own; by default that is set.

        Its tensors are copies. It is what `channel_prune` makes that keeps the first channels.
        """
        wanted = self._full(widths) if widths is not None else self.current
        small = self.program.copy()
        own = analyse_like(self._hidden.plan.groups, small)
        removed = own.none_removed()
        for group in self._hidden.plan.elastic:
            count = wanted[group.name] // group.takes[0]
            removed[own[group.name].roots[count:]] = True
        if removed.any():
            remove(small, own, removed)
        units = tuple(self._hidden.units_of(wanted))
        for path, moments in self._hidden.moments.get(units, {}).items():
            layer = small.module.get_submodule(path)
            for name, value in zip(("running_mean", "running_var"), moments, strict=True):
                layer.get_buffer(name).copy_(value)
        small.module.meta.pop(SUPERNET, None)  # its widths are others
        return small.module

    def calibrate(self, data: Any, *, batches: int = 8) -> int:
        """Measures the BatchNorms of the subnet that is set, over batches of inputs together.

        The subnet of these widths, and what is extracted of it, has these moments from then on, in
        eval mode. Moments that were measured before the weights changed are old: `forget_moments`.

        Args:
            data: batches, as in `gfx.apply`.
            batches: how many of them are taken.

        Returns: how many BatchNorms were measured.
        Raises: InputError if the data does not suit; PreconditionError if a BatchNorm is called
            more than once.

        Example:
            >>> import gfx, torch
            >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
            >>> _ = net.set(net.smallest())
            >>> net.calibrate([torch.randn(8, 100, 1, 1)] * 2)
            4
        """
        hidden = self._hidden
        given = batches_of(self.program, data, batches)
        found = pool_moments(hidden.graph(self).evaluating(), given)
        hidden.moments[tuple(hidden.units)] = found
        return len(found)

    @property
    def has_moments(self) -> bool:
        """Whether a BatchNorm needs moments of its own for every subnet."""
        return any(map(tracks, self._hidden.program.module.modules()))

    def share_moments(self) -> None:
        """Makes the moments of the subnet that is set those that all subnets share.

        Those of the largest net belong into its file.
        """
        hidden = self._hidden
        parts = self.parts(self.current)
        for path, moments in hidden.moments.get(tuple(hidden.units), {}).items():
            layer = hidden.program.module.get_submodule(path)
            for name, value in zip(("running_mean", "running_var"), moments, strict=True):
                part = parts.get(f"{path}.{name}")
                whole = layer.get_buffer(name)
                if part is None:
                    whole.copy_(value)
                else:
                    part.write(whole, value)

    def forget_moments(self) -> None:
        """Drops all moments that `calibrate` measured: subnets use the shared ones again."""
        self._hidden.moments.clear()

    def keep_moments(self, moments: Moments) -> None:
        """Keeps moments for the widths that are set, as `calibrate` does with those it measures."""
        self._hidden.moments[tuple(self._hidden.units)] = dict(moments)

    @property
    def kept_moments(self) -> dict[tuple[int, ...], Moments]:
        """The moments that were measured, by the units of the widths; a copy."""
        return dict(self._hidden.moments)

    def restore_moments(self, moments: Mapping[tuple[int, ...], Moments]) -> None:
        """Puts back what `kept_moments` was."""
        self._hidden.moments = dict(moments)

    @property
    def subnet_graph(self) -> SubnetGraph:
        """What runs the subnet that is set; whoever sets other widths there puts these back."""
        return self._hidden.graph(self)

    def units(self, widths: Widths) -> list[int]:
        """Returns widths as numbers of channels that go together, of each elastic group."""
        return self._hidden.units_of(self._full(widths))

    def parts(self, widths: Widths) -> dict[str, TensorPart]:
        """Returns the part of each tensor that a subnet uses, by path; others are used whole."""
        hidden = self._hidden
        found = hidden.graph(self).parts(hidden.units_of(self._full(widths)))
        paths = hidden.plan.paths
        return {path: found[known] for path, known in paths.items() if known in found}

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets an optimizer update only what the subnets used since its last step.

        Momentum and weight decay then leave the other weights alone, and their state too. Used are
        the widths that ran with gradients on; of several subnets, the largest width of each group.

        Raises: InputError if none of its parameters is the supernet's.
        """
        mine = {id(parameter) for parameter in self.parameters()}
        if not any(id(p) in mine for group in optimizer.param_groups for p in group["params"]):
            raise InputError(
                f"{type(optimizer).__name__} has none of this supernet's parameters; make it of "
                "net.parameters(), after any copy"
            )
        keep_unused(optimizer, self._used, self._hidden.forget_use)

    def note_use(self, widths: Widths) -> None:
        """Counts a subnet as used in this step, as where another process runs it."""
        units = self._hidden.units_of(self._full(widths))
        self._hidden.used = [max(a, b) for a, b in zip(self._hidden.used, units, strict=True)]

    def _used(self) -> dict[int, TensorPart]:
        hidden = self._hidden
        if not any(hidden.used):
            return {}
        return hidden.graph(self).parts_of_parameters(hidden.used)

    def _full(self, widths: Widths) -> dict[str, int]:
        """Fills in the largest widths, and checks those that are given."""
        for name, width in widths.items():
            if name not in self.widths:
                if name in self._hidden.plan.kept_whole:
                    why = f": {self._hidden.plan.kept_whole[name]}"
                else:
                    why = did_you_mean(name, self.widths)
                raise InputError(f"{name} is no group with a choice of widths{why}")
            if width not in self.widths[name]:
                known = ", ".join(map(str, self.widths[name]))
                raise InputError(f"{name} cannot be {width} wide; its widths are {known}")
        return {**self.largest(), **{name: int(width) for name, width in widths.items()}}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Supernet":
        """Copies the tensors; what was planned is shared."""
        program = self.program.copy()
        twin = Supernet(program, self._hidden.plan, self._given, self._ties)
        for mine, other in zip(self.parameters(), twin.parameters(), strict=True):
            if mine.grad is not None:
                other.grad = copy.deepcopy(mine.grad, memo)
        twin._hidden.moments = copy.deepcopy(self._hidden.moments, memo)
        twin.set(self.current)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> Any:
        """Pickles the program and the choices; the plan is made again."""
        hidden = self._hidden
        given = (self._given, self._ties, self.kept_whole)
        return _again, (self.program, *given, self.current, hidden.moments)


class TappedSupernet(nn.Module):
    """Runs a supernet, and returns its features beside the output."""

    def __init__(self, net: Supernet) -> None:
        super().__init__()
        self.net = net
        net.running_layers(taps=True)  # refuses a program without taps

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the subnet that is set."""
        return self.net._hidden.run(self.net, args, kwargs, taps=True)


class _Hidden:
    """Holds what a supernet has beside its tensors."""

    def __init__(self, program: Program, plan: SubnetPlan) -> None:
        self.program, self.plan = program, plan
        self.widths: dict[str, int] = {}
        self.units: list[int] = []  # channels that go together, of each elastic group
        self.used = [0] * len(plan.elastic)  # the most of each since an optimizer stepped
        self.moments: dict[tuple[int, ...], Moments] = {}  # by units
        self._graphs: dict[bool, SubnetGraph] = {}  # without taps, and with
        self._stale: set[bool] = set()  # those that run at other widths
        self._parts: KnownParts = {}
        self._pricing: Pricing | None = None

    def forget_use(self) -> None:
        """Begins anew to note which widths are used."""
        self.used = [0] * len(self.plan.elastic)

    def units_of(self, widths: Widths) -> list[int]:
        """Returns widths as numbers of channels that go together, of each elastic group."""
        return [widths[group.name] // group.takes[0] for group in self.plan.elastic]

    def set(self, net: Supernet, widths: dict[str, int]) -> None:
        """Sets the widths of all groups."""
        self.widths, self.units = widths, self.units_of(widths)
        self._stale = set(self._graphs)

    def graph(self, net: Supernet, *, taps: bool = False) -> SubnetGraph:
        """Returns what runs on the tensors of a supernet, at the widths that are set."""
        if taps not in self._graphs:
            self._graphs[taps] = SubnetGraph(self.plan, net, self._parts, taps=taps)
            self._stale.add(taps)
        if taps in self._stale:
            self._graphs[taps].set(self.units)
            self._stale.remove(taps)
        return self._graphs[taps]

    def run(self, net: Supernet, args: Any, kwargs: Any, *, taps: bool = False) -> Any:
        """Runs the subnet that is set, and notes what is used."""
        if torch.is_grad_enabled():
            self.used = [max(a, b) for a, b in zip(self.used, self.units, strict=True)]
        moments = {} if net.training else self.moments.get(tuple(self.units), {})
        return self.graph(net, taps=taps).run(args, kwargs, moments)

    @property
    def pricing(self) -> Pricing:
        """What prices subnets."""
        if self._pricing is None:
            groups = self.plan.groups
            self._pricing = Pricing(groups, cost_of(groups.program))
        return self._pricing


def _again(
    program: Program,
    given: dict[str, tuple[int, ...]],
    ties: Ties,
    kept_whole: dict[str, str],
    current: dict[str, int],
    moments: dict[tuple[int, ...], Moments],
) -> Supernet:
    """Makes a supernet of what was pickled."""
    net = planned(program, given, kept_whole, ties)
    net._hidden.moments = moments
    net.set(current)
    return net


def planned(
    program: Program,
    widths: Mapping[str, tuple[int, ...]],
    kept_whole: Mapping[str, str],
    ties: Ties = (),
) -> Supernet:
    """Makes a supernet of a program, which it takes for its own.

    Args:
        program: its channels are in order.
        widths: of the groups that have a choice.
        kept_whole: why the others have none.
        ties: names of groups that are chosen together.
    """
    shapes = program.copy(on_write=True)
    without_content(shapes.module)
    shapes.example_inputs = pytree.tree_map_only(
        Tensor, lambda x: x.to("meta"), shapes.example_inputs
    )
    groups = analyse(shapes)
    least = {name: values[0] // groups[name].takes[0] for name, values in widths.items()}
    return Supernet(program, plan_subnets(groups, least, kept_whole), widths, ties)
