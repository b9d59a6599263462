"""Opens whatever a user has: an archive, a pickled module, a state dict, an exported program.

The content decides what a file is, not its name.
"""

import os
import zipfile
from pathlib import Path
from typing import Any

from torch import nn

from gfx.errors import ArchiveError
from gfx.io.archive.files import regular_file
from gfx.io.archive.loading import load
from gfx.io.archive.named_tuples import restored
from gfx.io.archive.pickles import load_export, load_pickle
from gfx.io.archive.state_dicts import build_from_factory, fill, unwrap

__all__ = ["open_model"]


def open_model(
    path: str | os.PathLike[str], *, model: str | None = None, trust: bool = False
) -> nn.Module:
    """Opens a model file; the model is on the cpu.

    - a `.gfx` archive; where it returns a named tuple, `trust=True` imports the class, else one of
      the same name and fields stands for it;
    - a pickled module made of torch.nn classes;
    - a state dict (pickled, or safetensors) with `model="package.module:factory"`, your function
      or class that builds the module without arguments; importing it runs your code;
    - with `trust=True`, any pickled module and `torch.export` files. Both run code from the file:
      only for files whose author you trust.

    Raises: ArchiveError saying what the file is, or what it wanted to run, and how to go on.

    Example:
        >>> open_model("model.pt")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: model.pt does not exist; check the path
    """
    file = regular_file(path)
    kind = _kind(file)
    if kind == "gfx":
        opened = load(path)
        if trust:
            restored(opened.graph, file)
            opened.recompile()
        return _whole(opened, file, model)
    if kind == "export":
        return _whole(load_export(file, trust=trust), file, model)
    content = _safetensors(file) if kind == "safetensors" else load_pickle(file, trust=trust)
    found = unwrap(content, file)
    if isinstance(found, nn.Module):
        return _whole(found, file, model)
    if model is None:
        raise ArchiveError(
            f"{file} is a state dict ({len(found)} tensors, the first is {next(iter(found))}); "
            "say how to build its module with --model package.module:factory "
            "(in Python model='package.module:factory')"
        )
    return fill(build_from_factory(model), found, file)


def _kind(file: Path) -> str:
    """Detects the kind of a file from its content: gfx, export, pickle or safetensors."""
    with open(file, "rb") as opened:
        head = opened.read(16)
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(file)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if head[:1] == b"\x80":  # every pickle protocol from 2 on
        return "pickle"
    raise ArchiveError(
        f"{file} is no model file: gfx opens .gfx, .pt, .pth, .pt2 and .safetensors, and it begins "
        f"with {head[:8]!r}"
    )


def _zip_kind(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ArchiveError(
            f"{file} is truncated or damaged ({error}); copy or download it again"
        ) from error
    bare = {name.partition("/")[2] for name in names} | set(names)
    if "graph.json" in names:
        return "gfx"
    if "constants.pkl" in bare:
        raise ArchiveError(
            f"{file} is a TorchScript archive, which cannot be traced; save the original module "
            "with torch.save"
        )
    if bare & {"archive_format", "serialized_exported_program.json"}:
        return "export"
    if "data.pkl" in bare:
        return "pickle"
    raise ArchiveError(f"{file} is a zip file, but neither a .gfx archive nor a torch file")


def _safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        return dict(load_tensors(file.read_bytes()))
    except SafetensorError as error:
        raise ArchiveError(f"{file} is truncated or damaged ({error})") from error


def _whole(module: nn.Module, file: Path, model: str | None) -> nn.Module:
    if model is not None:
        raise ArchiveError(f"{file} holds a whole model, so --model {model} has no use; drop it")
    return module
