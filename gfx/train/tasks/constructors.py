"""Makes tasks from image to image of folders, tensors, Datasets, DataLoaders, lists.

`call(generator, batch)` runs generators that take their arguments otherwise.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

from gfx.errors import InputError
from gfx.io.data.datasets.paired_files import check_alike, partners
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.train.tasks.example_source import (
    Concatenated,
    ExampleSource,
    FirstColumn,
    Zipped,
)
from gfx.train.tasks.image_options import ImageOptions
from gfx.train.tasks.image_tasks import SuperResolutionTask, UnpairedTask
from gfx.train.tasks.label_tasks import InputsTask
from gfx.train.tasks.open_rows import PictureRows
from gfx.train.tasks.paired_task import PairedTask
from gfx.train.tasks.task import Call, Task

__all__ = ["called", "inputs", "paired", "super_resolution", "unpaired"]

T = TypeVar("T", bound=Task)


def paired(
    x: Any, y: Any = None, unlabelled: Any = None, *, call: Call | None = None, **seen: Any
) -> PairedTask:
    """Makes the task of pairs: of inputs and targets, or of data that hold both.

    `x` and `y` may be folders, whose pictures are paired by name; one folder holds A|B side by
    side; a Dataset alone gives (input, target). `unlabelled` are inputs without targets. `seen` are
    the fields of `ImageOptions`.

    Raises: InputError if pairs do not match, or are not to be seen like that.

    Example:
        >>> import torch
        >>> task = paired(torch.zeros(8, 3, 16, 16), torch.ones(8, 1, 16, 16), crop=8)
        >>> task.length, task.name
        (8, 'paired')
    """
    how = ImageOptions(**seen)
    source = _pairs(x, y, how)
    labelled = None
    if unlabelled is not None:
        more = FirstColumn(how.source(unlabelled))
        labelled = [True] * len(source) + [False] * len(more)
        source = Concatenated(source, more)
    made = PairedTask(source, how.views, how.given, how.made, labelled, how.labels)
    made.about = (f"task paired: {len(source)} pairs",)
    if unlabelled is not None:
        made.about = (f"task paired: {sum(labelled or ())} pairs, and {len(more)} inputs without",)
    return called(made, call)


def unpaired(a: Any, b: Any, *, call: Call | None = None, **seen: Any) -> UnpairedTask:
    """Makes the task from images of one set to images like those of another.

    Example:
        >>> import torch
        >>> unpaired(torch.zeros(8, 3, 16, 16), torch.zeros(5, 3, 16, 16)).length
        8
    """
    how = ImageOptions(**seen)
    source, reals = how.source(a), how.source(b, target=True)
    made = UnpairedTask(source, reals, how.views, how.given, how.made)
    made.about = (f"task unpaired: {len(source)} inputs and {len(reals)} real images",)
    return called(made, call)


def super_resolution(
    images: Any, scale: int = 4, *, call: Call | None = None, **seen: Any
) -> SuperResolutionTask:
    """Makes the task from images that were scaled down to the images themselves.

    `size` and `crop` are of the large images.

    Example:
        >>> import torch
        >>> super_resolution(torch.zeros(8, 3, 16, 16), scale=2).scale
        2
    """
    how = ImageOptions(**seen)
    source = how.source(images, target=True)
    made = SuperResolutionTask(source, scale, how.views, how.given, how.made)
    made.about = (f"task super_resolution: {len(source)} images, {scale} times as large",)
    return called(made, call)


def inputs(x: Any, *, call: Call | None = None, **seen: Any) -> InputsTask:
    """Makes the task of inputs alone: what the original makes of them is the target.

    Example:
        >>> import torch
        >>> inputs(torch.zeros(8, 100)).length
        8
    """
    how = ImageOptions(**seen)
    source = how.source(x)
    made = InputsTask(source, how.views, how.given)
    made.about = (f"task self: {len(source)} inputs, and what the model makes of them",)
    return called(made, call)


def _pairs(x: Any, y: Any, how: ImageOptions) -> ExampleSource:
    """Opens pairs: of two sources, or of one that holds both."""
    folders = [isinstance(data, str | os.PathLike) for data in (x, y)]
    if folders == [True, True]:
        a, b = partners(Path(x), Path(y))
        given, made = how.pictures(a), how.pictures(b, target=True)
        check_alike(given, made)
        return Zipped(PictureRows(given, mark=how.mark), PictureRows(made))
    if folders == [True, False] and y is None:
        check_folder(x)
        paths = picture_paths(Path(x))
        half = how.half or "left"
        other = "right" if half == "left" else "left"
        return Zipped(
            PictureRows(how.pictures(paths, half=half), mark=how.mark),
            PictureRows(how.pictures(paths, target=True, half=other)),
        )
    if y is None:
        return how.source(x)
    a_rows, b_rows = how.source(x), how.source(y, target=True)
    if len(a_rows) != len(b_rows):
        raise InputError(
            f"there are {len(a_rows)} inputs and {len(b_rows)} targets; pairs are as many of both"
        )
    return Zipped(a_rows, b_rows)


def called(task: T, call: Call | None) -> T:
    """Gives a task a call of its own."""
    task.call = call
    return task
