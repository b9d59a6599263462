"""Makes tasks of what the user has: folders, tensors, Datasets, DataLoaders, lists.

1. Pictures of files are scaled to cover `size` and cut to `crop`: anywhere if `crop` was given,
   else from the middle to `size`. A number stands for a square.
2. Values of 8 bits become `range`; floats are taken as they are.
3. `call(generator, batch)` runs generators that take their arguments otherwise.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gfx.errors import InputError
from gfx.io.data.datasets.paired_files import check_sizes, partners
from gfx.io.data.datasets.picture_set import PictureSet, Size
from gfx.io.data.image_folder import ImageFolder
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.io.data.value_range import Range, parse_range
from gfx.train.tasks.example_source import (
    Concatenated,
    ExampleSource,
    PictureRows,
    Zipped,
    open_rows,
)
from gfx.train.tasks.image_tasks import PairedTask, SuperResolutionTask, UnpairedTask
from gfx.train.tasks.label_tasks import InputsTask, LatentTask
from gfx.train.tasks.task import Call, Task
from gfx.train.tasks.views import Views

__all__ = ["ImageOptions", "inputs", "latent", "paired", "super_resolution", "unpaired"]

T = TypeVar("T", bound=Task)
Lengths = int | tuple[int, int] | None


@dataclass(frozen=True)
class ImageOptions:
    """How images are seen: `size` and `crop` are height and width, or one number for both.

    Raises: InputError if a field is no size, or no range.
    """

    size: Lengths = None
    crop: Lengths = None
    flip: bool = True
    range: Any = (-1.0, 1.0)  # of what the generator takes
    target_range: Any = None  # of what it makes; None: the same
    channels: int = 3  # of what it takes, where that are pictures of files
    target_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("size", "crop"):
            object.__setattr__(self, name, _lengths(name, getattr(self, name)))
        size, crop = self.cover, self.cut
        if size and crop and (size[0] < crop[0] or size[1] < crop[1]):
            raise InputError(
                f"crop={crop[0]}x{crop[1]} is larger than size={size[0]}x{size[1]} (height x "
                "width); pictures are scaled to size first, then cut"
            )

    @property
    def cover(self) -> Size | None:
        """The size that pictures are scaled to cover."""
        return self.size  # type: ignore[return-value]

    @property
    def cut(self) -> Size | None:
        """The size that is cut out."""
        return self.size if self.crop is None else self.crop  # type: ignore[return-value]

    @property
    def views(self) -> Views:
        """The views of training (rule 1)."""
        return Views(self.cut, self.flip, anywhere=self.crop is not None)

    @property
    def given(self) -> Range:
        """The range of inputs."""
        return parse_range(self.range)

    @property
    def made(self) -> Range:
        """The range of targets."""
        return self.given if self.target_range is None else parse_range(self.target_range)

    def pictures(
        self, paths: list[Path], *, target: bool = False, half: str | None = None
    ) -> PictureSet:
        """Opens files, whose sizes are checked.

        Raises: InputError naming files and sizes.
        """
        channels = self.target_channels if target else self.channels
        found = PictureSet(paths, channels=channels, size=self.cover, half=half)
        check_sizes(found, self.cut)
        return found

    def source(self, data: Any, *, target: bool = False, mark: str = "") -> ExampleSource:
        """Opens a folder, or whatever else holds images.

        Raises: InputError if it cannot be opened.
        """
        half = None
        if isinstance(data, ImageFolder):
            data, half = data.path, data.half
        if isinstance(data, str | os.PathLike):
            check_folder(data)
            paths = picture_paths(Path(data))
            return PictureRows(self.pictures(paths, target=target, half=half), mark=mark)
        if self.size is not None and not isinstance(data, ExampleSource):
            raise InputError(
                f"size={self.size} scales pictures of files, and data is a {type(data).__name__}; "
                "scale its images before, or give crop="
            )
        return open_rows(data)


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
        more = _Inputs(how.source(unlabelled))
        labelled = [True] * len(source) + [False] * len(more)
        source = Concatenated(source, more)
    made = PairedTask(source, how.views, how.given, how.made, labelled)
    made.about = (f"task paired: {len(source)} pairs",)
    if unlabelled is not None:
        made.about = (f"task paired: {sum(labelled or ())} pairs, and {len(more)} inputs without",)
    return _called(made, call)


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
    return _called(made, call)


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
    return _called(made, call)


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
    return _called(made, call)


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
    return _called(made, call)


class _Inputs(ExampleSource):
    """The first column of a source: rows without targets."""

    def __init__(self, whole: ExampleSource) -> None:
        self.whole, self.draws = whole, whole.draws

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, index: int, seed: int = 0) -> tuple[Any, ...]:
        return self.whole.read(index, seed)[:1]

    def key(self, index: int) -> str:
        return self.whole.key(index)

    def name(self, index: int) -> str:
        return self.whole.name(index)

    def keep_decoded(self, most: int) -> None:
        self.whole.keep_decoded(most)


def _pairs(x: Any, y: Any, how: ImageOptions) -> ExampleSource:
    """Opens pairs: of two sources, or of one that holds both."""
    folders = [isinstance(data, str | os.PathLike) for data in (x, y)]
    if folders == [True, True]:
        a, b = partners(Path(x), Path(y))
        return Zipped(PictureRows(how.pictures(a)), PictureRows(how.pictures(b, target=True)))
    if folders == [True, False] and y is None:
        check_folder(x)
        paths = picture_paths(Path(x))
        return Zipped(
            PictureRows(how.pictures(paths, half="left")),
            PictureRows(how.pictures(paths, target=True, half="right")),
        )
    if y is None:
        return how.source(x)
    a_rows, b_rows = how.source(x), how.source(y, target=True)
    if len(a_rows) != len(b_rows):
        raise InputError(
            f"there are {len(a_rows)} inputs and {len(b_rows)} targets; pairs are as many of both"
        )
    return Zipped(a_rows, b_rows)


def _called(task: T, call: Call | None) -> T:
    task.call = call
    return task


def _lengths(name: str, value: Any) -> Size | None:
    """Reads a size: a number for a square, or height and width."""
    if value is None:
        return None
    pair = (value, value) if isinstance(value, int) else value
    good = isinstance(pair, tuple | list) and len(pair) == 2
    if not good or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in pair):
        raise InputError(f"{name}={value!r} is no size; give pixels, as 64, or (height, width)")
    return pair[0], pair[1]
