"""Defines what a rule gets (a call of an operation) and what it records about it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from gfx.coupling.labelled_tensor import Labeled, tensors
from gfx.coupling.labels import Ids

__all__ = ["Call", "Read", "Statistic"]


@dataclass(frozen=True)
class Read:
    """Records where channels are consumed: a contraction over `dim` of `operand`.

    StyleGAN2 folds its batch into the channels: (N, C, H, W) is read as (1, N C, H, W). `one` is
    then C, and `apart` undoes it.
    """

    node: fx.Node
    operand: fx.Node
    dim: int
    ids: Ids
    one: int  # positions that are one example's; the others repeat their channels

    @property
    def channels(self) -> Ids:
        """The labels of one example."""
        return self.ids[: self.one]

    def apart(self, value: Tensor) -> Tensor:
        """Returns the value that is read with one example's channels along `dim`.

        Shapes: (1, N C, ...) becomes (N, C, ...); all others stay what they are.
        """
        dim, times = self._folded(value)
        if times == 1:
            return value
        split = value.reshape(*value.shape[:dim], times, self.one, *value.shape[dim + 1 :])
        return split.movedim(dim, 0).flatten(0, 1)

    def together(self, value: Tensor, like: Tensor) -> Tensor:
        """Undoes `apart`: returns the value laid out as what is read."""
        dim, times = self._folded(like)
        if times == 1:
            return value
        split = value.reshape(times, -1, *value.shape[1:])
        return split.movedim(0, dim).flatten(dim, dim + 1)

    def _folded(self, value: Tensor) -> tuple[int, int]:
        dim = self.dim % value.ndim
        return dim, value.shape[dim] // self.one if dim else 1


@dataclass(frozen=True)
class Statistic:
    """Records where a norm, softmax or maximum runs over channels: after a removal, over fewer."""

    node: fx.Node
    operand: fx.Node
    ids: dict[int, Ids]  # by dimension of the operand
    carries: bool  # whether the output has these channels too


@dataclass(frozen=True)
class Call:
    """Holds one operation with its arguments as the analysis sees them."""

    node: fx.Node
    name: str  # canonical operation name, or the class name of a module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    module: nn.Module | None = None

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """Returns an argument given by position or by name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape; that of the first output if there are several."""
        value = self.node.meta["val"]
        while isinstance(value, (tuple, list)):
            value = value[0]
        return tuple(value.shape)

    @property
    def operand(self) -> fx.Node:
        """The first tensor argument's node."""
        return self.node.all_input_nodes[0]

    @property
    def tensors(self) -> list[Labeled]:
        """Every activation among the arguments."""
        return tensors((self.args, self.kwargs))
