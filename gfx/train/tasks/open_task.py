"""Opens data for a generator: which task it is, and how its images are seen.

1. The generator's inputs tell the task: an image and a vector are `labels`, noise and a class
   `class`, noise `latent`. With an image alone the data tells it: two sets or A|B are `paired`, of
   unequal names `unpaired`; of one set the images are made larger (`super_resolution`), or they are
   inputs alone (`self`).
2. Pictures of files are brought to the size that the generator was traced with, never enlarged.
   Where some are smaller, they are brought to the largest that all have, if it runs at that.
3. The range is the model's (gfx/io/data/value_range.py), that of its output for real images.
4. `val/` or `test/` is held out, else a share of the examples.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gfx.errors import InputError, did_you_mean
from gfx.io.data.datasets.folder_layout import FolderLayout, find_layout
from gfx.io.data.datasets.picture_set import listed
from gfx.io.data.image_folder import ImageFolder
from gfx.io.data.picture_paths import check_folder
from gfx.io.data.range_from_graph import told_by_output
from gfx.io.data.value_range import find_range, parse_range, written
from gfx.io.guards import printable
from gfx.ir.program import Program
from gfx.train.tasks.check_task import check_fits
from gfx.train.tasks.constructors import inputs, paired, super_resolution, unpaired
from gfx.train.tasks.drawn_task import DrawnTask
from gfx.train.tasks.folder_tasks import TASKS, kind_of_folder, sizes_for, task_of_folder
from gfx.train.tasks.generator_needs import GeneratorNeeds, check_kind
from gfx.train.tasks.held_out import hold_out
from gfx.train.tasks.image_options import Lengths
from gfx.train.tasks.label_constructors import attributes as attribute_task
from gfx.train.tasks.label_constructors import labelled, latent
from gfx.train.tasks.open_rows import open_rows
from gfx.train.tasks.paired_task import PairedTask
from gfx.train.tasks.task import Call, Task

__all__ = ["open_task"]


def open_task(
    data: Any,
    program: Program,
    *,
    task: str | None = None,
    size: Lengths = None,
    crop: Lengths = None,
    flip: bool = True,
    range: Any = None,
    val: float | str | os.PathLike[str] | None = None,
    labels: float = 1.0,
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    model: nn.Module | None = None,
    call: Call | None = None,
) -> Task:
    """Opens data for a generator (rules 1 to 4); `about` of the task says what was assumed.

    Args:
        data: a folder, a Task, a tensor, a Dataset, a DataLoader, or a list of examples; None draws
            the latents of a generator that takes some; a tuple of two, folders too, are inputs and
            targets, or two sets. Of pictures A|B the left half is the input;
            gfx.images(folder, half="right") takes the other.
        program: the generator.
        task: the name of the task; None infers it.
        size: height and width that pictures of files are scaled to cover, or one number.
        crop: what is cut out of them, anywhere.
        flip: whether examples are mirrored half of the time; not for text.
        range: what black and white become; None finds it by the model.
        val: the share of the examples that is held out, or a folder; None: val/ or test/, else 0.1.
        labels: the share of the pairs whose targets are used, above 0.
        attributes: which columns of a table the generator takes.
        seed: chooses what is held out and what is labelled.
        model: what the program was made from, which may state its range.
        call: runs a generator on a batch, where its arguments are odd.

    Raises: InputError that says what was found, and what is understood.

    Example:
        >>> import gfx, torch
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> task = open_task(torch.zeros(20, 3, 64, 64), program)
        >>> task.name, task.length, task.held_out.length
        ('latent', 18, 2)
    """
    if task is not None and task not in TASKS:
        raise InputError(f"there is no task {task!r}{did_you_mean(task, TASKS)}")
    if not 0 < labels <= 1:
        raise InputError(f"labels={labels} must be above 0 and at most 1: a share of the pairs")
    if data is None:
        if task not in (None, "self"):
            raise InputError(f"task={task!r} needs data; give some, or task='self'")
        return DrawnTask(program)
    needs = GeneratorNeeds.of(program)
    half = None
    if isinstance(data, ImageFolder):
        range = data.range if range is None else range
        data, half = data.path, data.half
    how, said = _ranges(program, model, range)
    how.update(flip=flip, call=call, half=half)
    if task is not None and call is None and not isinstance(data, Task):
        check_kind(task, needs)
    if _are_paths(data):
        data = _two_folders(*data)
    if isinstance(data, Task):
        if task not in (None, data.name):
            raise InputError(f"task={task!r}, and data is of the task {data.name}; leave task out")
        made = copy.copy(data)
        made.call = made.call if call is None else call
        said = ()
    elif isinstance(data, str | os.PathLike | FolderLayout):
        layout = data if isinstance(data, FolderLayout) else find_layout(data)
        made = _of_folder(layout, program, needs, task, (size, crop), attributes, how, val)
    else:
        if size is not None:
            raise InputError(
                f"size={size} scales pictures of files, and data is a {type(data).__name__}; scale "
                "its images before, or give crop="
            )
        made = _of_values(data, needs, task, {**how, "crop": crop})
    made.about = (*made.about, *said)
    check_fits(made, needs)
    made = hold_out(made, val if isinstance(val, int | float) else None, seed)
    if labels < 1:
        made = _with_labels(made, labels, seed)
    return made


def _are_paths(data: Any) -> bool:
    both = isinstance(data, tuple) and len(data) == 2
    return both and all(isinstance(part, str | os.PathLike) for part in data)


def _two_folders(first: Any, second: Any) -> FolderLayout:
    """Makes a layout of two folders, wherever they are."""
    for folder in (first, second):
        check_folder(folder)
    a, b = Path(first).absolute(), Path(second).absolute()
    return FolderLayout("two folders", Path(os.path.commonpath((a.parent, b.parent))), (a, b))


def _ranges(
    program: Program, model: nn.Module | None, range: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the ranges of what a generator takes and makes, and what tells them (rule 3)."""
    if range is not None:
        given = parse_range(range)
        return {"range": given, "target_range": given}, ()
    found = find_range(program, model)
    told = told_by_output(program)
    given, made = (found.low, found.high), (found.low, found.high) if told is None else told[:2]
    said = found.sentence
    if made != given:
        said += f", and real images to {written(made)}"
    return {"range": given, "target_range": made}, (said,)


def _of_folder(
    layout: FolderLayout,
    program: Program,
    needs: GeneratorNeeds,
    task: str | None,
    lengths: tuple[Lengths, Lengths],
    attributes: Sequence[str] | None,
    how: dict[str, Any],
    val: Any,
) -> Task:
    if how["half"] == "middle":  # the user says that they are no pairs
        layout = replace(layout, kind="pictures") if layout.kind == "side by side" else layout
        how = {**how, "half": None}
    if isinstance(val, str | os.PathLike):
        layout = replace(layout, held_out=find_layout(val))
    kind = kind_of_folder(layout, needs) if task is None else task
    sizes, said = sizes_for(layout, kind, program, needs, lengths)
    how = {**how, **sizes}
    made = task_of_folder(layout, kind, needs, attributes, how)
    made.about = (*made.about, layout.sentence, *said)
    if layout.held_out is not None and val != 0:
        other = replace(layout.held_out, held_out=None)
        judged = task_of_folder(other, kind, needs, attributes, {**how, "mark": "v"})
        ours, theirs = getattr(made, "names", ()), getattr(judged, "names", ())
        if ours != theirs:
            raise InputError(
                f"{printable(layout.root)} has the labels {listed(ours)}, and "
                f"{printable(other.root)} {listed(theirs)}; both are to have the same"
            )
        made.held_out = judged.for_judging()
        made.about = (*made.about, f"held out: {judged.length} examples of their own folder")
    return made


def _of_values(data: Any, needs: GeneratorNeeds, task: str | None, how: dict[str, Any]) -> Task:
    """Makes a task of what is no folder (rule 1)."""
    both = isinstance(data, tuple) and len(data) == 2
    if both and task == "unpaired":
        return unpaired(*data, **how)
    if both and (task == "paired" or (task is None and needs.image and not needs.attributes)):
        if any(isinstance(part, str | os.PathLike) for part in data):
            return paired(*data, **how)
        a, b = (open_rows(part) for part in data)
        alike = len(a) == len(b) or task == "paired"
        return paired(a, b, **how) if alike else unpaired(a, b, **how)
    source = open_rows(data)
    columns = source.read(0)
    kind = task or _kind_of_rows(columns, needs)
    if kind == "latent":
        return latent(source, needs.noise or (), **how)
    if kind == "class":
        z, hot = needs.noise or (), needs.one_hot
        return labelled(source, z=z, classes=hot or None, one_hot=bool(hot), **how)
    if kind == "labels":
        return attribute_task(source, **how)
    if kind == "paired":
        return paired(source, **how)
    if kind == "unpaired":
        raise InputError("the task unpaired takes two sets; give data=(inputs, real images)")
    if kind == "super_resolution":
        return super_resolution(source, needs.scale, **how)
    return inputs(source, **how)


def _kind_of_rows(columns: tuple[Any, ...], needs: GeneratorNeeds) -> str:
    first = columns[0]
    shape = tuple(first.shape) if isinstance(first, Tensor) else None
    if needs.attributes and len(columns) > 1:
        return "labels"
    if needs.noise is not None:
        if shape == needs.noise:
            return "self"
        return "class" if needs.classes else "latent"
    if needs.image is not None and len(columns) == 2 and getattr(columns[1], "ndim", 0) == 3:
        return "paired"
    if needs.image is not None and needs.scale > 1 and shape != needs.image:
        return "super_resolution"
    return "self"


def _with_labels(task: Task, share: float, seed: int) -> Task:
    if not isinstance(task, PairedTask):
        raise InputError(
            f"labels={share} keeps a share of the targets, and the task {task.name} has none that "
            "can be left out; only the task paired has: leave labels out, in a recipe "
            "{labelled: ...} under `data`"
        )
    made = task.with_labels(share, seed)
    assert made.labelled is not None
    count = sum(made.labelled)
    said = f"labels: {count} of {made.length} pairs keep their targets, chosen by the seed"
    made.about = (*made.about, said)
    return made
