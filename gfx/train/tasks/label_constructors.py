"""Makes tasks of noise and labels: of folders, tables, tensors, Datasets, DataLoaders, lists.

`call(generator, batch)` runs generators that take their arguments otherwise.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.datasets.attribute_tables import AttributeTable, read_table
from gfx.io.data.datasets.folder_layout import find_layout, layout_error
from gfx.io.data.datasets.picture_set import listed
from gfx.io.data.picture_paths import picture_paths
from gfx.train.tasks.constructors import called
from gfx.train.tasks.example_source import ExampleSource, Zipped
from gfx.train.tasks.image_options import ImageOptions
from gfx.train.tasks.label_tasks import ClassTask, LabelsTask, LatentTask
from gfx.train.tasks.open_rows import Items, PictureRows, Rows
from gfx.train.tasks.task import Call

__all__ = ["attributes", "class_rows", "labelled", "latent", "table_rows"]

_LOOKED_AT = 100_000  # examples whose labels are read


def latent(images: Any, z: Any, *, call: Call | None = None, **seen: Any) -> LatentTask:
    """Makes the task from noise of shape `z`, without the batch, to images like the real ones.

    Example:
        >>> import torch
        >>> task = latent(torch.zeros(8, 3, 16, 16), z=100)
        >>> task.z
        (100,)
    """
    how = ImageOptions(**seen)
    shape = (z,) if isinstance(z, int) else tuple(z)
    source = how.source(images, target=True)
    made = LatentTask(source, shape, how.views, how.made)
    made.about = (f"task latent: {len(source)} real images, noise of {'x'.join(map(str, shape))}",)
    return called(made, call)


def labelled(
    images: Any,
    labels: Any = None,
    *,
    z: Any,
    classes: int | None = None,
    one_hot: bool = False,
    call: Call | None = None,
    **seen: Any,
) -> ClassTask:
    """Makes the task from noise of shape `z` and a class to images of the class.

    A folder holds one folder a class; a Dataset alone gives (image, class). `one_hot` hands the
    generator a vector of 0 and 1 in place of the number of the class.

    Raises: InputError if there is one class only, or a label is none.

    Example:
        >>> import torch
        >>> task = labelled(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 1]), z=16)
        >>> task.classes
        3
    """
    how = ImageOptions(**seen)
    names: Sequence[str] = ()
    if labels is None and isinstance(images, str | os.PathLike):
        source, names = class_rows(Path(images), how)
        numbers = torch.arange(len(names))
    else:
        source = how.source(images, target=True)
        if labels is not None:
            source = _with(source, torch.as_tensor(labels))
        numbers = _labels_of(source)
    found = len(set(numbers.tolist()))
    if found < 2:
        raise InputError(
            f"the data is of one class only ({int(numbers[0])}); the task class takes at least "
            "two: take the task latent, or give the other classes"
        )
    count = int(numbers.max()) + 1 if classes is None else classes
    shape = (z,) if isinstance(z, int) else tuple(z)
    made = ClassTask(
        source, shape, how.views, how.made, classes=count, one_hot=one_hot, names=names
    )
    named = f" ({listed(names)})" if names else ""
    made.about = (f"task class: {len(source)} real images of {found} classes{named}",)
    return called(made, call)


def attributes(
    images: Any,
    table: Any = None,
    *,
    names: Sequence[str] | None = None,
    call: Call | None = None,
    **seen: Any,
) -> LabelsTask:
    """Makes the task from an image and attributes to an image with these attributes.

    `table` is a file, for a folder of images, or a tensor (N, attributes); a Dataset alone gives
    (image, attributes). `names` chooses attributes of a file.

    Raises: InputError if images have no attributes, or a name is unknown.

    Example:
        >>> import torch
        >>> attributes(torch.zeros(4, 3, 8, 8), torch.eye(4)[:, :3]).table.shape
        torch.Size([4, 3])
    """
    how = ImageOptions(**seen)
    chosen: Sequence[str] = ()
    if isinstance(images, str | os.PathLike):
        source, values, chosen = table_rows(Path(images), table, names, how)
    else:
        source = how.source(images)
        if table is not None:
            source = _with(source, torch.as_tensor(table))
        values = _labels_of(source, vectors=True)
    made = LabelsTask(source, values, how.views, how.given, names=chosen)
    named = f": {listed(chosen, 10)}" if chosen else ""
    made.about = (f"task labels: {len(source)} images, {values.shape[1]} attributes{named}",)
    return called(made, call)


def class_rows(root: Path, how: ImageOptions) -> tuple[ExampleSource, list[str]]:
    """Opens a folder of one folder a class, and names the classes.

    Raises: InputError if it is none.
    """
    layout = find_layout(root)
    if layout.kind != "classes":
        pictures = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."]
        if layout.kind == "pictures" and len(pictures) == 1:
            raise InputError(
                f"{layout.root} holds one class only, {pictures[0].name}/; the task class takes at "
                "least two: take the task latent, or add the folders of the other classes"
            )
        raise layout_error(root, "class")
    paths, numbers = [], []
    for number, folder in enumerate(layout.folders):
        found = picture_paths(folder)
        paths += found
        numbers += [torch.tensor(number)] * len(found)
    names = [folder.name for folder in layout.folders]
    return PictureRows(how.pictures(paths, target=True), numbers, how.mark), names


def table_rows(
    root: Path, table: Any, names: Sequence[str] | None, how: ImageOptions
) -> tuple[ExampleSource, Tensor, tuple[str, ...]]:
    """Opens a folder of pictures with a table, or with one folder a class.

    Raises: InputError if it is neither.
    """
    layout = find_layout(root)
    if table is None and layout.kind == "classes":
        source, classes = class_rows(root, how)
        assert isinstance(source, PictureRows)
        hot = torch.eye(len(classes))
        source.labels = [hot[int(label)] for label in source.labels or ()]
        return source, torch.stack(source.labels), tuple(classes)
    file = layout.table if table is None else Path(table)
    if file is None:
        raise layout_error(root, "labels")
    read: AttributeTable = read_table(file)
    if names is not None:
        read = read.chosen(names)
    paths = picture_paths(root)
    values = read.rows_of(paths, root)
    return PictureRows(how.pictures(paths), list(values), how.mark), values, read.names


def _with(source: ExampleSource, labels: Tensor) -> ExampleSource:
    if len(labels) != len(source):
        raise InputError(
            f"there are {len(source)} images and {len(labels)} labels; give one for each image"
        )
    return Zipped(source, Rows(labels))


def _labels_of(source: ExampleSource, vectors: bool = False) -> Tensor:
    """Reads the labels of all examples.

    Raises: InputError if there are none, or they are of another kind.
    """
    stated = source.labels() if isinstance(source, Items) else None
    if stated is not None and stated.ndim == 1 + vectors:
        return stated.float() if vectors else stated.long()
    if len(source) > _LOOKED_AT:
        raise InputError(
            f"the data holds {len(source):,} examples, too many to look for labels in; give "
            "the labels as a tensor"
        )
    found = []
    for index in range(len(source)):
        row = source.read(index)
        if len(row) < 2:
            raise InputError(
                f"{source.name(index)} has no label; give labels, or a Dataset whose items are "
                "(image, label)"
            )
        label = torch.as_tensor(row[1])
        if (label.ndim == 1) is not vectors or (not vectors and label.numel() != 1):
            wanted = "a vector of attributes" if vectors else "the number of a class"
            raise InputError(
                f"the label of {source.name(index)} has shape {tuple(label.shape)}; give {wanted}"
            )
        found.append(label.float() if vectors else label.long().reshape(()))
    return torch.stack(found)
