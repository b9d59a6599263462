"""A net that learns beside a student, from values of its step, by losses of its own."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.loop.player import Player, Terms, add_logged
from gfx.train.loop.sampled_nets import NetTurn
from gfx.train.loop.step_values import CutValues
from gfx.train.players import Side
from gfx.train.systems.fit_fields import Fit
from gfx.train.tasks import Batch

__all__ = ["SidePlayer", "named_outputs"]

_ALONE = NetTurn(None)


class SidePlayer(Player):
    """Trains the net of a side player; it steps with the student, whose values it sees."""

    def __init__(
        self, name: str, kind: Side, net: nn.Module, terms: Terms, fit: Fit, student: Player
    ) -> None:
        super().__init__(name, net, None, terms, fit, student.task, student.devices, taps=False)
        self.kind, self.student = kind, student
        for value in kind.adds:
            student.added[value] = self.outputs

    def outputs(self, values: CutValues) -> Mapping[str, Tensor]:
        """Returns what the net adds to the values of a step, by name.

        Raises: InputError if it is not what its kind says.
        """
        with self.devices.autocast(self.fit.precision):
            return named_outputs(self.kind, self.net(*self.kind.inputs(values)))

    def loss(
        self, batch: Batch, share: float, logged: dict[str, Tensor], turn: NetTurn = _ALONE
    ) -> None:
        """Adds the gradients of its losses to its own weights, and to no others."""
        if not self._fools:
            return
        # the graph of what the student's terms saw is gone
        values = self.student.made_of(batch).without_added()
        total = torch.zeros((), device=values.image.device)
        for term, objective in self.terms:
            value = objective.generator(values)
            if value is not None:
                total = total + term.weight * share * value.float()
                add_logged(logged, term.name, value * share)
        inputs = [*self._own, *self._extra]
        if total.requires_grad:
            torch.autograd.backward(total, inputs=inputs)
        if all(p.grad is None for p in inputs):
            raise InputError(
                "no term has a gradient to its weights; give losses that depend on "
                f"{' or '.join(self.kind.adds)}"
            )


def named_outputs(kind: Side, made: Any) -> dict[str, Tensor]:
    """Returns the outputs of a side player's net by the names that its kind adds.

    Raises: InputError if they are not as many tensors as names.
    """
    outputs = (made,) if isinstance(made, Tensor) else made
    if (
        not isinstance(outputs, tuple | list)
        or len(outputs) != len(kind.adds)
        or not all(isinstance(each, Tensor) for each in outputs)
    ):
        count = f"{len(outputs)} values" if isinstance(outputs, tuple | list) else "no tensor"
        raise InputError(
            f"the net of the kind {kind.name} returns {count}, and the kind adds "
            f"{', '.join(kind.adds)}; return one tensor for each"
        )
    return dict(zip(kind.adds, outputs, strict=True))
