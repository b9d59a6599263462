"""Opens what a search runs on: a generator as a supernet, its task, and its examples.

1. A supernet, or the file of one, is taken as it is.
2. The channels of any other generator are sorted; its layers will be refitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gfx.compression.selection.width_choices import SUPERNET
from gfx.errors import InputError
from gfx.frontend.driver import traced
from gfx.pipeline import apply
from gfx.progress import stage
from gfx.train.search.example_split import ExampleSplit, split_examples
from gfx.train.search.supernet_judge import arguments
from gfx.train.supernet import Supernet, supernet
from gfx.train.tasks import Task, open_task

__all__ = ["OpenedSearch", "open_search", "said_of_score"]

_FRESH = 0.3  # share of the examples that the front is judged on, where the data holds none out


@dataclass(frozen=True)
class OpenedSearch:
    """A generator as a supernet, its task, and its examples."""

    net: Supernet
    kind: str  # supernet, or refit
    task: Task
    split: ExampleSplit
    about: tuple[str, ...]


def open_search(
    module: nn.Module,
    data: Any,
    example_inputs: Any,
    widths: Any,
    order: Any,
    examples: int,
    seed: int,
    how: Mapping[str, Any],
) -> OpenedSearch:
    """Opens a generator and its data (rules 1 and 2); `how` is what `open_task` takes.

    Raises: GfxError of the kind of what does not fit.
    """
    how = {**how, "val": _FRESH if how.get("val") is None else how["val"]}
    trained = isinstance(module, Supernet) or SUPERNET in getattr(module, "meta", {})
    if trained:
        if widths is not None:
            raise InputError("widths= is for a generator that is no supernet; this one has its own")
        net = module if isinstance(module, Supernet) else supernet(module, example_inputs)
        stage("opening the data")
        task = open_task(data, net.program, model=module, seed=seed, **how)
        split = split_examples(task, examples=examples, seed=seed)
        said = ("the model is a supernet: its nets are judged as they are",)
        return OpenedSearch(net, "supernet", task, split, (*said, *task.about, *split.about))
    stage("tracing")
    given = apply({"passes": []}, module, example_inputs)
    program = traced(given, None, check=False)
    stage("opening the data")
    task = open_task(data, program, model=module, seed=seed, **how)
    split = split_examples(task, examples=examples, fits=True, seed=seed)
    assert split.fit is not None
    stage("sorting channels")
    given.eval()
    inputs = [arguments(task, batch) for batch in split.fit.batches[:4]]
    net = supernet(
        given, program.example_inputs, widths=widths, order=order, data=inputs, seed=seed
    )
    said = (
        "the model is no supernet: its channels are pruned, and its layers refitted, without "
        "training",
    )
    return OpenedSearch(net, "refit", task, split, (*said, *task.about, *split.about))


def said_of_score(split: ExampleSplit) -> str:
    """Says which score is taken where none is named."""
    if split.searched.truths is None:
        return "score: l1, of what a net makes from what the largest makes"
    return "score: l1, from the ground truth"
