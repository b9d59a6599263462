"""Opens data as a task: by its kind and its layout, with what was assumed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import random as _random
from torch import Tensor

from gfx.errors import InputError, did_you_mean
from gfx.io.data.picture_pairs import is_pair
from gfx.io.data.picture_files import picture_size
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.io.data.value_range import find_range, parse_range
from gfx.io.guards import printable
from gfx.ir.program import Program
from gfx.train.tasks.image_source import ImageSource
from gfx.train.tasks.image_tasks import (
    InputsTask,
    LatentTask,
    PairedTask,
    SuperResolutionTask,
    UnpairedTask,
)
from gfx.train.tasks.task import Task

__all__ = ["TASKS", "inputs", "latent", "open_task", "paired", "super_resolution", "unpaired"]

TASKS = ("paired", "unpaired", "latent", "super_resolution", "self")
_LAYOUTS = """layouts that are understood:
  pairs     A|B side by side in each file; or A/ and B/ (trainA/ and trainB/) with equal names
  unpaired  trainA/ and trainB/ (A/ and B/) with other names
  images    a folder of images: noise to image, or super-resolution
  with train/, val/ or test/ above any of them"""
_MOST_HELD = 500


def paired(x: Any, y: Any, *, crop: int | None = None, flip: bool = True, **how: Any) -> Task:
    """Makes a task of pairs; inputs and targets are folders, tensors, Datasets or lists.

    Raises: InputError if there are not as many of both.

    Example:
        >>> import torch
        >>> paired(torch.zeros(4, 3, 8, 8), torch.ones(4, 1, 8, 8)).length
        4
    """
    return PairedTask(ImageSource.of(x, **how), ImageSource.of(y, **how), crop=crop, flip=flip)


def unpaired(a: Any, b: Any, *, crop: int | None = None, flip: bool = True, **how: Any) -> Task:
    """Makes a task of inputs and of real images that are no pairs."""
    return UnpairedTask(ImageSource.of(a, **how), ImageSource.of(b, **how), crop=crop, flip=flip)


def latent(
    images: Any, z: Sequence[int], *, crop: int | None = None, flip: bool = True, **how: Any
) -> Task:
    """Makes a task of noise and real images; `z` is the shape of one example's noise."""
    return LatentTask(ImageSource.of(images, **how), z, crop=crop, flip=flip)


def super_resolution(
    images: Any, scale: int = 4, *, crop: int | None = None, flip: bool = True, **how: Any
) -> Task:
    """Makes a task of small images and large ones, `scale` times as large."""
    return SuperResolutionTask(ImageSource.of(images, **how), scale, crop=crop, flip=flip)


def inputs(x: Any) -> Task:
    """Makes a task of inputs alone: a tensor of them, or a list of examples or tuples."""
    rows = [
        tuple(row) if isinstance(row, tuple | list) else (row,)
        for row in (x if not isinstance(x, Tensor) else list(x))
    ]
    return InputsTask(rows)


def open_task(
    data: Any,
    program: Program,
    *,
    task: str | None = None,
    size: int | None = None,
    crop: int | None = None,
    flip: bool = True,
    range: Any = None,
    held: float = 0.1,
    seed: int = 0,
) -> Task:
    """Opens data for a generator: a Task, a folder, or a tensor, Dataset or list of images.

    The task is that of the generator's inputs and the folder's layout, unless it is named. `held`
    is the share of the examples that are held out, where there is no folder val/ or test/.

    Raises: InputError that says what was found and what is understood.
    """
    if isinstance(data, Task):
        return data if data.held_out is not None else _split(data, held, seed)
    if task is not None and task not in TASKS:
        raise InputError(f"there is no task {task!r}{did_you_mean(task, TASKS)}")
    example = _image_input(program)
    found = find_range(program) if range is None else None
    low_high = parse_range(range) if range is not None else (found.low, found.high)  # type: ignore[union-attr]
    said = [found.sentence] if found is not None else []
    how = {"channels": 3 if example is None else example.shape[1], "size": size, "range": low_high}
    how["channels"] = _channels(program, example)
    views: dict[str, Any] = {"crop": crop, "flip": flip}
    if isinstance(data, tuple) and len(data) == 2:
        kind = task or "paired"
        made = (paired if kind == "paired" else unpaired)(*data, **views, **how)
    elif isinstance(data, str | os.PathLike):
        return _of_folder(Path(data), program, task, how, views, said, held, seed)
    elif example is None and (task in (None, "latent")):
        made = latent(data, _noise(program), **views, **how)
    elif task == "super_resolution":
        made = super_resolution(data, _scale(program), **views, **how)
    else:
        made = inputs(data)
    made.about = (f"task {made.name}, by what the generator takes", *said)
    return _split(made, held, seed)


def _of_folder(
    folder: Path,
    program: Program,
    task: str | None,
    how: dict[str, Any],
    views: dict[str, Any],
    said: list[str],
    held: float,
    seed: int,
) -> Task:
    check_folder(folder)
    below = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    parts = {"train": folder}
    if "train" in below:
        parts = {n: folder / n for n in ("train", "val", "test") if n in below}
    made = _layout(parts["train"], program, task, how, views)
    made.about = (*made.about, *said)
    for name in ("val", "test"):
        if name in parts:
            made.held_out = _layout(parts[name], program, task, how, {**views, "flip": False})
            made.about = (*made.about, f"held out: {made.held_out.length} examples of {name}/")
            return made
    for pair in (("testA", "testB"), ("valA", "valB")):
        if set(pair) <= below:
            made.held_out = _two(folder, pair, task, how, {**views, "flip": False})
            made.about = (*made.about, f"held out: {made.held_out.length} of {pair[0]}/, {pair[1]}/")
            return made
    return _split(made, held, seed)


def _layout(
    folder: Path, program: Program, task: str | None, how: dict[str, Any], views: dict[str, Any]
) -> Task:
    below = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    for pair in (("trainA", "trainB"), ("A", "B")):
        if set(pair) <= below and task in (None, "paired", "unpaired"):
            return _two(folder, pair, task, how, views)
    try:
        paths = picture_paths(folder)
    except InputError as error:
        raise InputError(f"{error}\n{_LAYOUTS}") from error
    sizes = [picture_size(path) for path in paths[:8]]
    side_by_side = all(is_pair(each) for each in sizes if all(each))
    image = _image_input(program)
    if task == "paired" or task is None and image is not None and side_by_side:
        if not side_by_side:
            raise InputError(
                f"{printable(folder)} holds {len(paths)} images and no pairs: {paths[0].name} is "
                f"{sizes[0][0]} wide and {sizes[0][1]} high, not twice as wide as high\n{_LAYOUTS}"
            )
        made = paired_halves(folder, how, views)
        made.about = (f"task paired: {len(paths)} files of A|B side by side; A is the input",)
        return made
    if task == "latent" or task is None and image is None:
        made = latent(folder, _noise(program), **views, **how)
        made.about = (f"task latent: the generator takes noise; {len(paths)} real images",)
        return made
    if task == "super_resolution" or task is None and _scale(program) > 1:
        scale = _scale(program)
        made = super_resolution(folder, scale, **views, **how)
        made.about = (f"task super_resolution: images {scale} times as large; {len(paths)} images",)
        return made
    if task in (None, "self"):
        source = ImageSource.of(folder, **how)
        rows = [(source.read(i),) for i in range(source.count)]
        made = InputsTask(rows)
        made.about = (f"task self: {len(paths)} inputs, and what the model makes of them",)
        return made
    raise InputError(f"{printable(folder)} is no folder for the task {task}\n{_LAYOUTS}")


def paired_halves(folder: Path, how: dict[str, Any], views: dict[str, Any]) -> Task:
    """Makes pairs of files that hold both, A|B side by side."""
    x = ImageSource.of(folder, half="left", **how)
    y = ImageSource.of(folder, half="right", **how)
    return PairedTask(x, y, **views)


def _two(
    folder: Path, pair: tuple[str, str], task: str | None, how: dict[str, Any], views: dict[str, Any]
) -> Task:
    a, b = (ImageSource.of(folder / name, **how) for name in pair)
    same = sorted(a.names) == sorted(b.names)
    if task == "unpaired" or task is None and not same:
        made: Task = UnpairedTask(a, b, **views)
        made.about = (
            f"task unpaired: {a.count} images in {pair[0]}/ and {b.count} in {pair[1]}/, of other "
            "names",
        )
        return made
    if not same:
        lone = sorted(set(a.names) ^ set(b.names))
        more = f" and {len(lone) - 5} more" if len(lone) > 5 else ""
        raise InputError(
            f"{printable(folder)}: {len(lone)} images of {pair[0]}/ and {pair[1]}/ have no partner "
            f"of the same name: {', '.join(lone[:5])}{more}; remove them, or take the task unpaired"
        )
    made = PairedTask(a, b, **views)
    made.about = (f"task paired: {a.count} images of equal names in {pair[0]}/ and {pair[1]}/",)
    return made


def _split(task: Task, share: float, seed: int) -> Task:
    """Holds some examples out, chosen by the seed."""
    if task.held_out is not None or task.length < 10 or not share:
        return task
    order = list(range(task.length))
    _random.Random(f"held out {seed}").shuffle(order)
    count = min(_MOST_HELD, max(1, round(task.length * share)))
    held, rest = sorted(order[:count]), sorted(order[count:])
    made = _part(task, rest)
    made.held_out = _part(task, held)
    made.about = (*task.about, f"held out: {count} of {task.length} examples, chosen by the seed")
    return made


def _part(task: Task, indices: list[int]) -> Task:
    from gfx.train.tasks.part import PartOfTask

    return PartOfTask(task, indices)


def _image_input(program: Program) -> Tensor | None:
    """Returns the image among the inputs of a generator; None if it takes noise."""
    for value in program.example_inputs:
        if isinstance(value, Tensor) and value.ndim == 4 and min(value.shape[2:]) > 1:
            return value if value.shape[1] in (1, 3, 4) else None
    return None


def _noise(program: Program) -> tuple[int, ...]:
    value = program.example_inputs[0]
    if not isinstance(value, Tensor):
        raise InputError(f"the generator takes a {type(value).__name__} first, and no noise")
    return tuple(value.shape[1:])


def _output(program: Program) -> Tensor | None:
    from gfx.ir.execute import run

    found = run(program, program.example_inputs)
    while isinstance(found, tuple | list) and found:
        found = found[0]
    return found if isinstance(found, Tensor) and found.ndim == 4 else None


def _channels(program: Program, example: Tensor | None) -> int:
    made = _output(program)
    return made.shape[1] if made is not None else 3 if example is None else example.shape[1]


def _scale(program: Program) -> int:
    given, made = _image_input(program), _output(program)
    if given is None or made is None:
        return 1
    return made.shape[2] // given.shape[2]
