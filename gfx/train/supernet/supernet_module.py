"""Runs a generator at many widths, and in several forms, on one set of weights.

Source: Cai et al. 2020, arXiv:1908.09791 (once-for-all); Li et al. 2020, arXiv:2003.08936, section
3.3 (GAN Compression: one subnet a step, its weights the first channels of the whole net's).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gfx.compression.selection.width_choices import SUPERNET, Ties
from gfx.costs import Cost, Macs
from gfx.costs.symbolic.pricing import Pricing
from gfx.coupling import analyse
from gfx.errors import InputError
from gfx.io.data import batches_of
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.choice_nodes import When
from gfx.ir.modules import without_content
from gfx.ir.program import Program
from gfx.train.supernet.assignments import Assignment, ElasticChoices, Setting
from gfx.train.supernet.extract_subnet import extracted, kept_channels
from gfx.train.supernet.kept_intervals import TensorPart
from gfx.train.supernet.partial_updates import keep_unused
from gfx.train.supernet.pooled_moments import Moments, pool_moments, tracks
from gfx.train.supernet.subnet_graph import SubnetGraph
from gfx.train.supernet.subnet_plan import SubnetPlan, plan_subnets
from gfx.train.supernet.subnet_runner import SubnetRunner

__all__ = ["Supernet", "TappedSupernet", "planned"]


class Supernet(nn.Module):
    """Runs a generator at any widths of its channel groups, on one set of weights.

    Its tensors are the generator's, by the same names: a state dict goes into the unmodified
    generator and back. Calling it runs the subnet that is set, the largest at first. A subnet uses
    the first channels of every group. Make it with `gfx.supernet`.

    `widths` lists the widths of every group, in channels of the layer that it is named after;
    `kept_whole` says why other groups have none. `choices` lists these and, where there are some,
    the forms of layers and the blocks that may be skipped; `without_choice` says why other layers
    and blocks have none. Separable layers have tensors of their own beside the generator's. An
    assignment gives a value for each choice; one that is not named is as in the largest net.

    Example:
        >>> import gfx, torch
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> net.widths["project.conv"], net.set(net.smallest())["project.conv"]
        ((32, 64), 32)
        >>> net(torch.randn(2, 100, 1, 1)).shape, net.cost(net.current).params < net.cost().params
        (torch.Size([2, 3, 64, 64]), True)
    """

    _runner: SubnetRunner
    widths: dict[str, tuple[int, ...]]
    without_choice: dict[str, str]

    def __init__(
        self,
        program: Program,
        plan: SubnetPlan,
        widths: Mapping[str, tuple[int, ...]],
        ties: Ties = (),
        without_choice: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        # the same dictionaries: whatever moves or loads these tensors does so for the program
        for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            vars(self)[kind] = vars(program.module)[kind]
        self.training = program.module.training
        self.widths = {group.name: widths[group.name] for group in plan.elastic}
        self.without_choice = dict(without_choice or {})
        self._given, self._ties = dict(widths), ties
        noted = {name: list(v) for name, v in self.widths.items()}
        program.module.meta[SUPERNET] = {"widths": noted, "together": [list(t) for t in ties]}
        each = {group.name: group.takes[0] for group in plan.elastic}
        choices = ElasticChoices(self.widths, each, ties, plan.choices, plan.kept_whole)
        vars(self)["_runner"] = SubnetRunner(program, plan, choices)
        self.set(self.largest())

    @property
    def program(self) -> Program:
        """The program of the largest net; it holds the supernet's own tensors."""
        self._runner.program.module.training = self.training
        return self._runner.program

    @property
    def kept_whole(self) -> dict[str, str]:
        """Why groups are not elastic, by their names."""
        return dict(self._runner.plan.kept_whole)

    @property
    def choices(self) -> dict[str, tuple[Setting, ...]]:
        """All choices by name: the widths of groups, the forms of layers, what may be skipped.

        Example:
            >>> import gfx
            >>> model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=1, image_size=16)
            >>> net = gfx.supernet(model, widths=[0.5, 1.0], forms=["blocks.*"], skip=True)
            >>> net.choices["blocks.0.conv1.form"], net.choices["blocks.0.skip"]
            (('separable', 'dense'), ('skipped', 'kept'))
        """
        return self._runner.choices.all

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """The choices that are no widths: forms of layers, and blocks that may be skipped."""
        return dict(self._runner.choices.options)

    @property
    def current(self) -> dict[str, Any]:
        """The choices that are set."""
        return dict(self._runner.current)

    @property
    def dimensions(self) -> tuple[tuple[str, ...], ...]:
        """The choices that are made apart: each of a group, of groups together, or of an option."""
        return self._runner.choices.dimensions

    def largest(self) -> dict[str, Any]:
        """Returns the largest net: the largest widths, dense layers, nothing skipped."""
        return self._runner.choices.largest()

    @in_neutral_modes
    def smallest(self) -> dict[str, Any]:
        """Returns the net of the fewest MACs: the smallest widths, all skipped, cheaper forms."""
        return self._runner.cheapest()

    def sample(self, seed: int, step: int) -> dict[str, Any]:
        """Draws each choice, what it may be as likely; the same seed and step give the same.

        Groups that are chosen together have the same choice.

        Example:
            >>> import gfx
            >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
            >>> net.sample(0, 7) == net.sample(0, 7), net.sample(0, 7) == net.sample(0, 8)
            (True, False)
        """
        return self._runner.choices.sample(seed, step)

    @in_neutral_modes
    def set(self, given: Assignment | None = None) -> dict[str, Any]:
        """Sets choices, those that are given; the others are as in the largest net.

        Returns: all choices.
        Raises: InputError if a name or a value is none of `choices`.
        """
        found = self._full(given or {})
        self._runner.set(found)
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the subnet that is set."""
        return self._runner.run(self, args, kwargs)

    def tapped(self) -> "TappedSupernet":
        """Returns what runs the subnet that is set, and returns `(y, {tap: feature})`.

        It has this supernet's tensors, as `gfx.tapped` has those of a program.

        Raises: InputError if the program has no taps.
        """
        return TappedSupernet(self)

    def running_layers(self, *, taps: bool = False) -> nn.Module:
        """Returns the layers that run a subnet; they are copies, without tensors of their own."""
        return self._runner.graph(self, taps=taps).every

    @in_neutral_modes
    def cost(self, given: Assignment | None = None) -> Cost:
        """Returns the cost of a subnet, without rows for its nodes; by default of the largest.

        It is that of the extracted net, to the last digit.
        """
        prices = {name: int(values[0]) for name, values in self.price([given or {}]).items()}
        return Cost(
            Macs(prices["exact"], prices["output"], prices["output_norm"]),
            prices["params"], prices["param_bytes"], prices["peak_activation_bytes"],
        )  # fmt: skip

    @in_neutral_modes
    def price(self, given: Sequence[Assignment]) -> dict[str, Any]:
        """Prices many subnets at once, in every measure of `gfx.Cost`: an array for each.

        Example:
            >>> import gfx
            >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
            >>> net.price([net.largest(), net.smallest()])["params"].tolist()
            [146032, 62264]
        """
        rows = self._runner.rows([self._full(each) for each in given])
        return dict(self.pricing.price(rows))

    @property
    def pricing(self) -> Pricing:
        """What prices many subnets at once: units of all groups, then the numbers of options."""
        return self._runner.pricing

    @in_neutral_modes
    def extract(self, given: Assignment | None = None) -> fx.GraphModule:
        """Returns a subnet as a generator of its own; by default the one that is set.

        Its tensors are copies. It is what `channel_prune` makes that keeps the first channels.
        """
        runner = self._runner
        units = self.units(self.current if given is None else given)
        moments = runner.moments.get(tuple(units), {})
        return extracted(self.program, runner.plan, units, moments)

    def kept_channels(self, whole: fx.GraphModule, given: Assignment) -> dict[str, Any]:
        """Returns the `kept` of `channel_prune` that makes a subnet of what `whole` is.

        Args:
            whole: what `extract` makes of the same options at the largest widths.
            given: the subnet.
        """
        program = Program(whole, self.program.example_inputs)
        return kept_channels(program, self._runner.plan, self.units(given))

    @in_neutral_modes
    def calibrate(self, data: Any, *, batches: int = 8) -> int:
        """Measures the BatchNorms of the subnet that is set, over batches of inputs together.

        This subnet, and what is extracted of it, has these moments from then on, in
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
        runner = self._runner
        given = batches_of(self.program, data, batches)
        found = pool_moments(runner.graph(self).evaluating(), given)
        runner.moments[tuple(runner.units)] = found
        return len(found)

    @property
    def has_moments(self) -> bool:
        """Whether a BatchNorm needs moments of its own for every subnet."""
        return any(map(tracks, self._runner.program.module.modules()))

    def share_moments(self) -> None:
        """Makes the moments of the subnet that is set those that all subnets share.

        Those of the largest net belong into its file.
        """
        runner = self._runner
        parts = self.parts(self.current)
        for path, moments in runner.moments.get(tuple(runner.units), {}).items():
            layer = runner.program.module.get_submodule(path)
            for name, value in zip(("running_mean", "running_var"), moments, strict=True):
                part = parts.get(f"{path}.{name}")
                whole = layer.get_buffer(name)
                if part is None:
                    whole.copy_(value)
                else:
                    part.write(whole, value)

    @in_neutral_modes
    def forget_moments(self) -> None:
        """Drops all moments that `calibrate` measured: subnets use the shared ones again."""
        self._runner.moments.clear()

    @in_neutral_modes
    def keep_moments(self, moments: Moments) -> None:
        """Keeps moments for the subnet that is set, as `calibrate` does with what it measures."""
        self._runner.moments[tuple(self._runner.units)] = dict(moments)

    @property
    def kept_moments(self) -> dict[tuple[int, ...], Moments]:
        """The moments that were measured, by the units of subnets; a copy."""
        return dict(self._runner.moments)

    @in_neutral_modes
    def restore_moments(self, moments: Mapping[tuple[int, ...], Moments]) -> None:
        """Puts back what `kept_moments` was."""
        self._runner.moments = dict(moments)

    @property
    def subnet_graph(self) -> SubnetGraph:
        """What runs the subnet that is set; whoever sets another one there puts this one back."""
        return self._runner.graph(self)

    def units(self, given: Assignment) -> list[int]:
        """Returns channels that go together of each elastic group, then the numbers of options."""
        return self._runner.choices.units(self._full(given))

    def shares(self, given: Assignment) -> list[float]:
        """Returns each choice as a share of what the largest net has, in the order of `choices`."""
        return self._runner.choices.shares(self._full(given))

    def when_used(self) -> dict[str, When]:
        """Returns when each choice matters, by the numbers of options: what is skipped has none."""
        return self.subnet_graph.when_used()

    def parts(self, given: Assignment) -> dict[str, TensorPart]:
        """Returns the part of each tensor that a subnet uses, by path; others are used whole."""
        runner = self._runner
        found, paths = runner.graph(self).parts(self.units(given)), runner.plan.paths
        return {path: found[known] for path, known in paths.items() if known in found}

    @in_neutral_modes
    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets an optimizer update only what the subnets used since its last step.

        Momentum and weight decay then leave the other weights alone, and their state too. Used are
        the subnets that ran with gradients on: of each tensor, the largest width of each group in
        those that have it.

        Raises: InputError if none of its parameters is the supernet's.
        """
        mine = {id(parameter) for parameter in self.parameters()}
        if not any(id(p) in mine for group in optimizer.param_groups for p in group["params"]):
            raise InputError(
                f"{type(optimizer).__name__} has none of this supernet's parameters; make it of "
                "net.parameters(), after any copy"
            )
        keep_unused(optimizer, lambda: self._runner.used_parameters(self), self._runner.forget_use)

    def note_use(self, given: Assignment) -> None:
        """Counts a subnet as used in this step, as where another process runs it."""
        self._runner.note_use(self.units(given))

    def _full(self, given: Assignment) -> dict[str, Any]:
        return self._runner.choices.full(given)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Supernet":
        """Copies the tensors; what was planned is shared."""
        program = self.program.copy()
        given = (self._given, self._ties, self.without_choice)
        twin = Supernet(program, self._runner.plan, *given)
        for mine, other in zip(self.parameters(), twin.parameters(), strict=True):
            if mine.grad is not None:
                other.grad = copy.deepcopy(mine.grad, memo)
        twin._runner.moments = copy.deepcopy(self._runner.moments, memo)
        twin.set(self.current)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> Any:
        """Pickles the program and the choices; the plan is made again."""
        runner = self._runner
        given = (self._given, self._ties, self.kept_whole, self.without_choice)
        return _again, (self.program, *given, self.current, runner.moments)


class TappedSupernet(nn.Module):
    """Runs a supernet, and returns its features beside the output."""

    def __init__(self, net: Supernet) -> None:
        super().__init__()
        self.net = net
        net.running_layers(taps=True)  # refuses a program without taps

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the subnet that is set."""
        return self.net._runner.run(self.net, args, kwargs, taps=True)


def _again(
    program: Program,
    given: dict[str, tuple[int, ...]],
    ties: Ties,
    kept_whole: dict[str, str],
    without_choice: dict[str, str],
    current: dict[str, Setting],
    moments: dict[tuple[int, ...], Moments],
) -> Supernet:
    """Makes a supernet of what was pickled."""
    net = planned(program, given, kept_whole, ties, without_choice)
    net._runner.moments = moments
    net.set(current)
    return net


def planned(
    program: Program,
    widths: Mapping[str, tuple[int, ...]],
    kept_whole: Mapping[str, str],
    ties: Ties = (),
    without_choice: Mapping[str, str] | None = None,
) -> Supernet:
    """Makes a supernet of a program, which it takes for its own.

    Args:
        program: its channels are in order.
        widths: of the groups that have a choice.
        kept_whole: why the others have none.
        ties: names of groups that are chosen together.
        without_choice: why layers and blocks have no choice of a form, and of being skipped.
    """
    shapes = program.copy(on_write=True)
    without_content(shapes.module)
    shapes.example_inputs = pytree.tree_map_only(
        Tensor, lambda x: x.to("meta"), shapes.example_inputs
    )
    groups = analyse(shapes)
    least = {name: values[0] // groups[name].takes[0] for name, values in widths.items()}
    return Supernet(program, plan_subnets(groups, least, kept_whole), widths, ties, without_choice)
