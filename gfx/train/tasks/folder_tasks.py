"""Makes the task of a folder: which one, at which size, from its layout and the generator.

1. Pictures are brought to the size that the generator was traced with: its image's, or that of what
   it makes. For super-resolution larger pictures are cut, not scaled.
2. Pictures are never enlarged. Where some are smaller, and the generator runs at the largest size
   that all have, they are brought to that.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gfx.errors import InputError
from gfx.io.data.datasets.folder_layout import FolderLayout, layout_error
from gfx.io.data.datasets.paired_files import names_of
from gfx.io.data.datasets.picture_set import PictureSet, Size
from gfx.io.data.picture_paths import picture_paths
from gfx.ir.program import Program
from gfx.train.tasks.constructors import inputs, paired, super_resolution, unpaired
from gfx.train.tasks.generator_needs import GeneratorNeeds, takes
from gfx.train.tasks.image_options import Lengths
from gfx.train.tasks.label_constructors import attributes, labelled, latent
from gfx.train.tasks.task import Task

__all__ = ["TASKS", "kind_of_folder", "sizes_for", "task_of_folder"]

TASKS = ("paired", "unpaired", "latent", "class", "labels", "super_resolution", "self")

# StarGAN's choice of CelebA's forty (section 5.1), where a generator takes five
_CHOSEN = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
_LOOKED_AT = 2000  # pictures whose sizes are compared
_COLOURS = (1, 3, 4)
_STEP = 16  # pixels that down-sampling divides, where sizes differ

Make = Callable[[FolderLayout, GeneratorNeeds, dict[str, Any]], Task]


def kind_of_folder(layout: FolderLayout, needs: GeneratorNeeds) -> str:
    """Infers the task."""
    if needs.attributes:
        return "labels"
    if needs.noise is not None and needs.image is None:
        return "class" if needs.classes else "latent"
    if layout.kind == "two folders":
        a, b = (set(names_of(f, picture_paths(f))) for f in layout.folders)
        return "paired" if a & b else "unpaired"
    if layout.kind == "side by side":
        return "paired"
    return "super_resolution" if needs.scale > 1 else "self"


def task_of_folder(
    layout: FolderLayout,
    kind: str,
    needs: GeneratorNeeds,
    chosen: Sequence[str] | None,
    how: dict[str, Any],
) -> Task:
    """Makes a task of a folder.

    Raises: InputError if its layout is not the task's, showing what is understood.
    """
    how = {**how, "target_channels": _channels(needs.made)}
    if kind == "paired" and layout.kind == "two folders" and _is_map(needs.image):
        assert needs.image is not None
        made = paired(*layout.folders, labels=needs.image[0], **how)
        about = f"inputs are maps of {needs.image[0]} labels, a channel for each"
        made.about = (*made.about, about)
        return made
    how["channels"] = _channels(needs.image)
    if kind == "labels":
        return _labels(layout, needs, chosen, how)
    return _MAKES[kind](layout, needs, how)


def sizes_for(
    layout: FolderLayout,
    kind: str,
    program: Program,
    needs: GeneratorNeeds,
    lengths: tuple[Lengths, Lengths],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Chooses size and crop of pictures, and says why (rules 1 and 2)."""
    size, crop = lengths
    if size is not None or crop is not None:
        return {"size": size, "crop": crop}, ()
    large = kind in ("latent", "class", "super_resolution")
    shape = needs.made if large else needs.image
    if shape is None:
        return {"size": None, "crop": None}, ()
    wanted = shape[1:]
    sizes = _sizes(layout)
    one = next(iter(sizes)) if len(sizes) == 1 else None
    said = f"{wanted[1]}x{wanted[0]} (width x height)"
    if one == wanted:
        return {"size": None, "crop": None}, (f"pictures are {said}, as the generator has them",)
    least = min(size[0] for size in sizes), min(size[1] for size in sizes)
    if least[0] < wanted[0] or least[1] < wanted[1]:
        stay = _smaller(program, needs, kind, one, least)
        if stay is not None:
            traced = f"the generator was traced with {said}, which costs are of; some pictures are"
            what = f"pictures are taken {stay[1]}x{stay[0]}: {traced} smaller, and it runs so too"
            cut = kind == "super_resolution"
            return {"size": None if one or cut else stay, "crop": stay if cut else None}, (what,)
    if kind == "super_resolution":
        return {"size": None, "crop": wanted}, (f"pieces of {said} are cut from the pictures",)
    return {"size": wanted, "crop": None}, (f"pictures are scaled and cut to {said}",)


def _smaller(
    program: Program, needs: GeneratorNeeds, kind: str, one: Size | None, least: Size
) -> Size | None:
    """Returns the largest size that all pictures have, if the generator runs at it (rule 2)."""
    if kind in ("latent", "class") or needs.image is None or 0 in least:
        return None
    step = needs.scale if kind == "super_resolution" else 1 if one else _STEP
    size = least[0] // step * step, least[1] // step * step
    scale = needs.scale
    given = (size[0] // scale, size[1] // scale) if kind == "super_resolution" else size
    return size if 0 not in given and takes(program, needs.image[0], given, scale) else None


def _sizes(layout: FolderLayout) -> set[Size]:
    """Reads the sizes of the first pictures of each folder."""
    half = "left" if layout.kind == "side by side" else None
    found: set[Size] = set()
    for folder in layout.folders[:2]:
        pictures = PictureSet(picture_paths(folder), half=half)
        found |= {pictures.shown_size(i) for i in range(min(len(pictures), _LOOKED_AT))}
    return found


def _channels(shape: tuple[int, ...] | None) -> int:
    if shape is None:
        return 3
    if _is_map(shape):
        raise InputError(
            f"the generator has images of {shape[0]} channels, and pictures of files have 1, 3 or "
            "4; maps of labels are read for the task paired, from A/ and B/; else give a Dataset "
            "of tensors (in Python)"
        )
    return shape[0]


def _is_map(shape: tuple[int, ...] | None) -> bool:
    """Whether an input is a map of labels: it has more channels than pictures have."""
    return shape is not None and shape[0] not in _COLOURS


def _paired(layout: FolderLayout, needs: GeneratorNeeds, how: dict[str, Any]) -> Task:
    if layout.kind == "two folders":
        return paired(*layout.folders, **how)
    if layout.kind not in ("side by side", "pictures") or not _twice_as_wide(layout.root):
        raise layout_error(layout.root, "paired")
    return paired(layout.root, **how)


def _unpaired(layout: FolderLayout, needs: GeneratorNeeds, how: dict[str, Any]) -> Task:
    if layout.kind != "two folders":
        raise layout_error(layout.root, "unpaired")
    return unpaired(*layout.folders, **how)


def _latent(layout: FolderLayout, needs: GeneratorNeeds, how: dict[str, Any]) -> Task:
    if layout.kind in ("two folders", "side by side") or needs.noise is None:
        raise layout_error(layout.root, "latent")
    return latent(layout.root, needs.noise, **how)


def _class(layout: FolderLayout, needs: GeneratorNeeds, how: dict[str, Any]) -> Task:
    if needs.noise is None:
        raise layout_error(layout.root, "class")
    hot = needs.one_hot
    return labelled(layout.root, z=needs.noise, classes=hot or None, one_hot=bool(hot), **how)


def _larger(layout: FolderLayout, needs: GeneratorNeeds, how: dict[str, Any]) -> Task:
    if layout.kind in ("two folders", "side by side"):
        raise layout_error(layout.root, "super_resolution")
    return super_resolution(layout.root, needs.scale, **how)


def _self(layout: FolderLayout, needs: GeneratorNeeds, how: dict[str, Any]) -> Task:
    if needs.image is None:
        raise InputError(
            f"the generator takes {' and '.join(needs.shapes)}, and a folder holds images; for the "
            "task self give its inputs as a tensor or Dataset (in Python)"
        )
    folder = layout.folders[0] if layout.kind == "two folders" else layout.root
    if layout.kind == "side by side" and how.get("half") is None:
        how = {**how, "half": "left"}
    return inputs(folder, **how)


def _labels(
    layout: FolderLayout,
    needs: GeneratorNeeds,
    chosen: Sequence[str] | None,
    how: dict[str, Any],
) -> Task:
    made = attributes(layout.root, names=chosen, **how)
    known = set(made.names)
    count = len(made.names)
    if chosen is None and needs.attributes == len(_CHOSEN) < count and known.issuperset(_CHOSEN):
        return attributes(layout.root, names=_CHOSEN, **how)
    if needs.attributes and count != needs.attributes:
        raise InputError(
            f"{layout.root} has {count} attributes, and the generator takes {needs.attributes}: "
            f"choose them, as attributes={list(made.names[: needs.attributes])} "
        )
    return made


def _twice_as_wide(root: Path) -> bool:
    pictures = PictureSet(picture_paths(root))
    sizes = [pictures.shown_size(i) for i in range(min(len(pictures), _LOOKED_AT))]
    return all(width == 2 * height for height, width in sizes if height)


_MAKES: dict[str, Make] = {
    "paired": _paired,
    "unpaired": _unpaired,
    "latent": _latent,
    "class": _class,
    "super_resolution": _larger,
    "self": _self,
}
