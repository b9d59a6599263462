"""Opens pickles and exported programs; runs nothing from them unless they are trusted."""

import functools
import inspect
import pickle
import pickletools
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gfx.errors import ArchiveError
from gfx.io.archive import former_names
from gfx.ir.modules import OWN, Ramp

__all__ = ["load_export", "load_pickle"]

_ON_TRUST = (
    "if you trust its author, pass --trust (in Python trust=True), which runs code from the file"
)
# what the pickle of any tensor or module mentions
_PLAIN = re.compile(r"torch\.nn\.|torch\._utils\.|torch\.\w+Storage|collections\.|__builtin__\.set")
_SOURCE_RUNNERS = ("torch.fx.graph_module.reduce_graph_module", "torch.fx._lazy_graph_module")


def load_pickle(file: Path, *, trust: bool) -> Any:
    """Loads a torch.save file; untrusted ones with torch.nn classes and plain data only.

    Raises: ArchiveError naming what an untrusted file wanted besides, or if it is damaged.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_allowed()):
            warnings.simplefilter("ignore")  # of torch, about formats it still reads
            if not trust:
                return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(
                file, map_location="cpu", weights_only=False, pickle_module=former_names
            )
    except pickle.UnpicklingError as error:
        if trust:
            raise _damaged(file, error) from error
        raise _refusal(file, error) from error
    except Exception as error:
        raise _damaged(file, error) from error


def load_export(file: Path, *, trust: bool) -> nn.Module:
    """Loads a torch.export.save file.

    Raises: ArchiveError without trust: torch's reader evaluates expressions and pickles in it.
    """
    if not trust:
        raise ArchiveError(
            f"{file} is a torch.export program, and opening one can run code from the file (torch "
            f"evaluates expressions and pickles in it); {_ON_TRUST}. Then gfx.save it as .gfx, "
            "which opens without"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how its own file is laid out
            return torch.export.load(file).module()
    except Exception as error:
        raise _damaged(file, error) from error


@functools.cache
def _allowed() -> list[Any]:
    """Lists the classes of torch.nn and gfx, and the helpers that their pickles mention."""
    from torch.nn.utils import spectral_norm, weight_norm

    spectral, weight = (inspect.getmodule(f) for f in (spectral_norm, weight_norm))
    names = ("SpectralNorm", "SpectralNormStateDictHook", "SpectralNormLoadStateDictPreHook")
    allowed: list[Any] = [getattr(spectral, name) for name in names]
    allowed += [getattr(weight, "WeightNorm"), torch.nn.modules.module._WrappedHook]  # noqa: B009
    allowed += [torch.nn.modules.linear.NonDynamicallyQuantizableLinear]
    allowed += [torch.nn.functional.relu, Ramp, *sorted(OWN, key=lambda kind: kind.__name__)]
    allowed += former_names.former_layers()
    return allowed + [
        value
        for name, value in sorted(vars(nn).items())
        if inspect.isclass(value) and issubclass(value, nn.Module) and name != "DataParallel"
    ]


def _refusal(file: Path, error: Exception) -> ArchiveError:
    """Explains what a pickle needs beyond the allow-list, and how to load it."""
    wanted = _wanted(file)
    if any(name.startswith(_SOURCE_RUNNERS) for name in wanted):
        return ArchiveError(
            f"{file} is a pickled torch.fx GraphModule, which runs Python source from the file "
            f"when it is opened; save it with gfx.save as .gfx instead, or {_ON_TRUST}"
        )
    if not wanted:
        return ArchiveError(
            f"{file} cannot be opened without running code from it, or is damaged "
            f"({_reason(error)}); save the model again with torch.save, or {_ON_TRUST}"
        )
    return ArchiveError(
        f"{file} is a pickle that wants to use {', '.join(wanted)}; nothing was executed. If that "
        "is your own model class, save its state_dict() and pass --model package.module:factory; "
        f"or, {_ON_TRUST}"
    )


def _wanted(file: Path) -> list[str]:
    """Lists what a pickle names beyond the allow-list, reading it without running it."""
    try:
        with torch.serialization.safe_globals(_allowed()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except (ValueError, RuntimeError, pickle.UnpicklingError):  # not of the present format
        return _globals_of_stream(file)


def _globals_of_stream(file: Path) -> list[str]:
    """Lists the names outside torch in a file of plain pickles, one after the other."""
    names: set[str] = set()
    strings: list[str] = []
    with open(file, "rb") as stream:
        try:
            while stream.peek(1):
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name == "GLOBAL":
                        names.add(str(argument).replace(" ", "."))
                    elif opcode.name == "STACK_GLOBAL":
                        names.add(".".join(strings[-2:]))
                    elif isinstance(argument, str):
                        strings.append(argument)
        except (ValueError, EOFError, UnicodeDecodeError):
            pass  # the raw tensors begin here, or the file ends early
    return sorted(name for name in names if not _PLAIN.match(name))


def _reason(error: Exception) -> str:
    """Extracts the sentence with the cause from an error of torch.load."""
    text = str(error).partition("Check the documentation")[0].strip()
    return f"{type(error).__name__}: {text.splitlines()[-1].strip()[:200] if text else 'no reason'}"


def _damaged(file: Path, error: Exception) -> ArchiveError:
    return ArchiveError(
        f"{file} cannot be opened: it is truncated, damaged or not written by torch.save "
        f"({_reason(error)})"
    )
