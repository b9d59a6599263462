"""Measures the damage of one change at a time, on the user's data or on synthetic inputs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.compression.factor import Condition, Form, parts_of, written_rank
from gfx.compression.probe.changes import Narrowing, ProbeChange, Replacement
from gfx.compression.probe.replay import Replay
from gfx.costs import cost_of
from gfx.coupling import Groups
from gfx.coupling.labels import Mask
from gfx.errors import InputError
from gfx.io.data import batches_of, synthetic, synthetic_note
from gfx.ir.layers import Layer
from gfx.ir.program import Program
from gfx.metrics import metric

__all__ = ["Damages", "sensitive"]

_WORK = 4_000_000_000  # MACs that the batches may take together, as in gfx.inspect
_SIDE = 64  # pixels: made-up images are not measured on smaller ones


class Damages:
    """Measures how far the output moves when one layer or one group alone is changed.

    It uses as many batches as run quickly, at most `batches`; weights that are fitted to data are
    fitted to all of them. With `smaller`, made-up images are scaled down where the program is large
    and runs on smaller ones: enough to tell which changes do more damage than others.

    Units: relative L2, ‖changed - original‖ / ‖original‖ over a batch, averaged over the batches;
    infinite where the changed program gives values that are not finite, and NaN where the time was
    over before it ran.

    Raises: PreconditionError if the program has no values; InputError if data does not suit.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> damages = Damages(program, None, 8)
        >>> layer = layers_of(program)[1]
        >>> exact, rough = damages.of_forms([(layer, Form(rank=16)), (layer, Form(rank=1))])
        >>> exact < 1e-5 < rough
        True
    """

    def __init__(
        self,
        program: Program,
        data: Any,
        batches: int,
        seed: int = 0,
        rounds: int = 3,
        *,
        smaller: bool = False,
    ) -> None:
        self.program, self.seed, self.rounds = program, seed, rounds
        self.note = ""  # which inputs were used, if not the user's data
        count = min(batches, max(_WORK // max(cost_of(program).macs.exact, 1), 1))
        if data is None:
            self.note = synthetic_note(program, count, seed)
            self.batches = synthetic(program, count, seed)
        else:
            self.batches = batches_of(program, data, batches)
        replay = self._scaled_down(count) if smaller and data is None else None
        self._replay = replay or Replay(program, self.batches[:count], seed=seed)
        self._metric = metric("relative_l2")

    def _scaled_down(self, count: int) -> Replay | None:
        """Replays on images scaled down until the work is small; None: as they are."""
        work = count * cost_of(self.program).macs.exact
        factors = [factor for factor in (4, 2) if work > _WORK * (factor // 2) ** 2]
        for factor in factors:
            small, side = _every(self.batches[:count], factor)
            if side >= _SIDE:
                with suppress(InputError):  # the graph is for its own size
                    replay = Replay(self.program, small, seed=self.seed)
                    self.note += f", and scaled down to {side} pixels for the damage"
                    return replay
        return None

    def of_forms(self, forms: Iterable[tuple[Layer, Form]]) -> list[float]:
        """Returns the damage of writing each layer alone in its form."""
        forms = list(forms)
        made = parts_of(self.program, forms, self.batches, self.seed, self.rounds)
        changes = [
            Replacement(dict.fromkeys(layer.calls, parts))
            for (layer, _), parts in zip(forms, made, strict=True)
        ]
        return self._measured(changes)

    def of_masks(self, groups: Groups, masks: Sequence[Mask]) -> list[float]:
        """Returns the damage of each removal alone."""
        return self._measured([Narrowing(groups, mask) for mask in masks])

    def _measured(self, changes: Sequence[ProbeChange]) -> list[float]:
        """Measures each change alone; infinite where it gives values that are not finite."""
        failed: set[int] = set()  # the original ran: it is the change that gives no finite values
        found = self._replay.damages(changes, self._metric, lambda number, _: failed.add(number))
        return [math.inf if number in failed else d for number, d in enumerate(found)]


def _every(batches: Sequence[tuple[Any, ...]], factor: int) -> tuple[list[tuple[Any, ...]], int]:
    """Takes every `factor`-th pixel; also returns the shortest side, 0 if there is no image."""
    images = [x for x in pytree.tree_leaves(batches) if isinstance(x, Tensor) and x.ndim == 4]
    side = min((min(x.shape[2:]) // factor for x in images), default=0)

    def fewer(x: Tensor) -> Tensor:
        return x[..., ::factor, ::factor].contiguous() if x.ndim == 4 else x

    return [pytree.tree_map_only(Tensor, fewer, batch) for batch in batches], side


def sensitive(
    damages: Damages, forms: Mapping[Layer, Form], where: Mapping[str, Any]
) -> tuple[dict[str, int | float | None], dict[str, Any], list[tuple[str, str]]]:
    """Takes the layers whose sensitivity meets a condition.

    A sensitivity is the damage of writing this layer alone in its form.

    Args:
        damages: measures the damage of changes to the program.
        forms: the layers in question, with their forms.
        where: the condition, as a recipe writes it.

    Returns: the ranks of these layers, by path; for the report the `sensitivity` of every layer,
    and the `inputs` used if they are not the user's data; (name, reason) of the others.

    Raises: RecipeError if the condition is malformed.
    """
    condition = Condition.parse(where)
    found = dict(zip(forms, damages.of_forms(forms.items()), strict=True))
    details: dict[str, Any] = {"inputs": damages.note} if damages.note else {}
    details["sensitivity"] = {layer.path: damage for layer, damage in found.items()}
    held = [layer for layer, damage in found.items() if condition.holds(damage)]
    left = [
        (layer.path, f"its sensitivity is {damage:.3g}, not {condition}")
        for layer, damage in found.items()
        if layer not in held
    ]
    return {layer.path: written_rank(layer, forms[layer]) for layer in held}, details, left
