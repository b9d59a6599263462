"""Opens whatever a user has: an archive, a pickled module, a state dict, an exported program.

The content decides what a file is, not its name.
"""

import inspect
import os
import warnings
from pathlib import Path
from typing import Any, TypeVar

from torch import fx, nn

from gfx.errors import ArchiveError
from gfx.io.archive.factories import ZOO, Factory, build_module_from, from_zoo
from gfx.io.archive.file_kinds import kind_of
from gfx.io.archive.files import regular_file
from gfx.io.archive.loading import load as load_archive
from gfx.io.archive.named_tuples import restored
from gfx.io.archive.object_classes import import_classes
from gfx.io.archive.pickles import load_export, load_pickle
from gfx.io.archive.state_dicts import fill, whole_in
from gfx.io.guards import reading_file
from gfx.objects.call_form import stand_ins

__all__ = ["ModelPath", "as_module", "load", "open_model"]

Given = TypeVar("Given")
ModelPath = str | os.PathLike[str]


def open_model(
    path: str | os.PathLike[str],
    *,
    model: Factory | None = None,
    key: str | None = None,
    trust: bool = False,
) -> nn.Module:
    """Opens a model file; the model is on the cpu.

    - a `.gfx` archive; where it returns an object, `trust=True` imports the class, else a
      dictionary with attribute access stands for it, and for a named tuple one of the same fields,
      and a warning says so;
    - a pickled module made of torch.nn classes;
    - a state dict (pickled, or safetensors), at any depth of a checkpoint and under any prefix,
      with `model`, what builds its module: `"package.module:factory"` or `"file.py:factory"`, with
      options as in `"net.py:Net?nf=16"`, `"zoo:NAME"`, your class or function, or a module, which
      is copied. Importing it runs your code;
    - with `trust=True`, any pickled module and `torch.export` files. Both run code from the file:
      only for files whose author you trust;
    - `"zoo:NAME?option=value"`, a reference generator, which is no file.

    Of several networks that fit, `key` names the one: `"g_ema"`, or `"ema"` for the average.

    Raises: ArchiveError saying what the file is, or what it wanted to run, and how to go on.

    Example:
        >>> open_model("model.pt")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: model.pt does not exist; check the path
    """
    opened = _opened(path, model, key, trust)
    _warn_of_stand_ins(opened, path)
    return opened


def _opened(
    path: ModelPath, model: Factory | None = None, key: str | None = None, trust: bool = False
) -> nn.Module:
    """Opens a model file, as `open_model` does, without a word about what stands for objects."""
    if isinstance(path, str) and path.startswith(ZOO):
        return _whole(from_zoo(path), path, model, key)
    _check_no_zoo_name(path)
    file = regular_file(path)
    kind = kind_of(file)
    if kind == "gfx":
        opened = load_archive(path)
        if trust:
            restored(opened.graph, file)
            import_classes(opened.graph, file)
            opened.recompile()
        return _whole(opened, file, model, key)
    if kind == "export":
        return _whole(load_export(file, trust=trust), file, model, key)
    content = _safetensors(file) if kind == "safetensors" else load_pickle(file, trust=trust)
    if model is None:
        return whole_in(content, file, key)
    if isinstance(content, nn.Module):
        return _whole(content, file, model, key)
    return fill(build_module_from(model), content, file, key)


def as_module(model: Given | ModelPath) -> Given | nn.Module:
    """Opens a model that is given by its path, or as `zoo:NAME`; gives back anything else.

    Every function of gfx that takes a model takes what this does. A reference generator is in eval
    mode.

    Raises: ArchiveError as `open_model` does; it names the options that only `open_model` has.

    Example:
        >>> as_module("zoo:dcgan?ngf=4").training, as_module(3)
        (False, 3)
    """
    if not isinstance(model, str | os.PathLike):
        return model
    opened = _opened(model)  # a trace notes what stands for objects
    return opened.eval() if str(model).startswith(ZOO) else opened


def load(
    path: str | os.PathLike[str],
    *,
    model: Factory | None = None,
    key: str | None = None,
    trust: bool = False,
) -> nn.Module:
    """Loads what `gfx.save` wrote, and opens whatever else `open_model` opens.

    Of a `.gfx` archive the result is an fx.GraphModule: the same output bit for bit, the same state
    dict, the same modes; on the cpu. Nothing in the file is executed or imported: a warning says
    where plain containers stand for objects of classes.

    Raises: ArchiveError as `open_model` does.

    Example:
        >>> load("missing.gfx")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: missing.gfx does not exist; check the path
    """
    opened = _opened(path, model, key, trust)
    _warn_of_stand_ins(opened, path)
    return opened


def _warn_of_stand_ins(opened: nn.Module, path: ModelPath) -> None:
    """Warns whoever called gfx if the model returns something else than it did when saved."""
    if not isinstance(opened, fx.GraphModule):
        return
    for what in stand_ins(opened.graph):
        warnings.warn(
            f"{os.fspath(path)} returns {what}: no class is imported from a file that is not "
            f"trusted; if you trust its author, gfx.open_model({os.fspath(path)!r}, trust=True) "
            "imports it",
            stacklevel=_depth(),
        )


def _depth() -> int:
    """Returns the level of the stack, seen from the caller, at which gfx was called."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "gfx":
        depth, frame = depth + 1, frame.f_back
    return depth


def _check_no_zoo_name(path: str | os.PathLike[str]) -> None:
    """Refuses the bare name of a reference generator with how it is written."""
    if not str(path).isidentifier() or os.path.lexists(path):
        return
    from gfx import zoo

    if str(path) in (*zoo.names(), *zoo.discriminators()):
        raise ArchiveError(f"{path} does not exist; did you mean {ZOO}{path}?")


def _safetensors(file: Path) -> dict[str, Any]:
    from safetensors.torch import load as load_tensors

    with reading_file(file):
        return dict(load_tensors(file.read_bytes()))


def _whole(
    module: nn.Module, file: Path | str, model: Factory | None, key: str | None
) -> nn.Module:
    """Returns what is one whole model; refuses options that are for state dicts."""
    given = {"--model": model, "--key": key}
    for option, value in given.items():
        if value is not None:
            said = value if isinstance(value, str) else "(model=)"
            raise ArchiveError(
                f"{file} holds a whole model, so {option} {said} has no use; drop it"
            )
    return module
