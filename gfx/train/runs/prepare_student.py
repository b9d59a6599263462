"""Prepares the student of a stage: its passes, on what the stage before it left, and its data.

1. Taps of `fit.taps`, and those among the passes, go in first; every teacher gets them at the same
   places.
2. A stage that trains the whole net of a supernet with choices of forms begins from that net alone:
   layers that no subnet of it would use are not computed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import fx

from gfx.compression.selection.width_choices import SUPERNET
from gfx.errors import PreconditionError
from gfx.ir.choice_nodes import choices_of, take
from gfx.ir.execute import tensors
from gfx.ir.program import Program
from gfx.pipeline import apply
from gfx.train.feeding import Loader
from gfx.train.systems import SystemStage
from gfx.train.tasks import Task

__all__ = ["StageInputs", "prepared_student", "taps_of"]

_READ_BYTES = 1 << 28  # of the inputs that passes measure on


class StageInputs:
    """The inputs of the generator, batch by batch, for passes that measure on data."""

    def __init__(self, task: Task, loader: Loader) -> None:
        self.task, self.loader = task, loader
        self._kept: list[tuple[Any, ...]] = []  # passes read them again and again
        self._bytes = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.loader.steps_per_epoch):
            if number < len(self._kept):
                yield self._kept[number]
                continue
            made = self.task.inputs(self.loader.at(number))
            if number == len(self._kept) and self._bytes < _READ_BYTES:
                self._kept.append(made)
                self._bytes += sum(x.numel() * x.element_size() for x in tensors(made))
            yield made


def prepared_student(
    stage: SystemStage, before: fx.GraphModule, steps: int, seed: int, example: Any, data: Any
) -> fx.GraphModule:
    """Applies the passes of a stage to what the stage before it left.

    Raises: GfxError as `gfx.apply` does, beginning with the name of the stage.
    """
    recipe = stage.recipe(steps, seed)
    taps = taps_of(stage)
    if stage.fit is not None and stage.fit.sample is None:
        before = _without_choices(before, example)  # rule 2
    passes = [*taps, *(p for p in recipe.spec()["passes"] if "distill_taps" not in p)]
    try:
        wanted = {"passes": passes, "seed": seed, "budget": stage.budget or None}
        return apply(wanted, before, example, data=data)
    except PreconditionError as error:
        raise PreconditionError(f"stage {stage.name}: {error}") from error


def _without_choices(net: fx.GraphModule, example: Any) -> fx.GraphModule:
    """Returns the largest net of a supernet; what has no choices as it is."""
    choices = choices_of(net)
    if not choices:
        return net
    program = Program(net, example).copy()
    take(program, [len(choice.options) - 1 for choice in choices.values()])
    program.module.meta.pop(SUPERNET, None)  # its choices are gone
    return program.module


def taps_of(stage: SystemStage) -> list[Any]:
    """Returns the passes that put taps into the nets of a stage, as a recipe lists them."""
    found = [
        entry
        for entry in stage.passes
        if entry == "distill_taps" or (isinstance(entry, Mapping) and "distill_taps" in entry)
    ]
    if stage.fit is not None and stage.fit.taps is not None:
        found.insert(0, {"distill_taps": stage.fit.taps})
    return found
