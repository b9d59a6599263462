"""Opens pickles and exported programs; runs nothing from them unless they are trusted."""

import functools
import inspect
import io
import itertools
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
from gfx.io.archive.imports import search_current_folder
from gfx.ir.modules import OWN, Ramp

__all__ = ["load_export", "load_pickle", "on_trust"]

# what the sources of pickles that are not torch's name
_KNOWN = {
    "dnnlib.tflib": "TensorFlow networks of StyleGAN, which gfx does not read; convert them to "
    "PyTorch first",
    "torch_utils.persistence": "networks of StyleGAN2-ADA or StyleGAN3, whose repository must be "
    "the current folder",
}
_MAGIC = 0x1950A86A20F9469CFC6C  # what files of torch.save before 1.6 begin with
# what the pickle of any tensor or module mentions
_PLAIN = re.compile(r"torch\.nn\.|torch\._utils\.|torch\.\w+Storage|collections\.|__builtin__\.set")
_SOURCE_RUNNERS = ("torch.fx.graph_module.reduce_graph_module", "torch.fx._lazy_graph_module")


def load_pickle(file: Path, *, trust: bool) -> Any:
    """Loads a torch.save file; untrusted ones with torch.nn classes and plain data only.

    Raises: ArchiveError naming what an untrusted file wanted besides, or if it is damaged.
    """
    plain = _is_plain(file)
    if plain and not trust:
        raise _plain_refusal(file)
    if trust:
        search_current_folder()
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_allowed()):
            warnings.simplefilter("ignore")  # of torch, about formats it still reads
            if not trust:
                return torch.load(file, map_location="cpu", weights_only=True)
            if plain:
                with open(file, "rb") as opened:
                    return _OnCpu(opened).load()
            return torch.load(
                file, map_location="cpu", weights_only=False, pickle_module=former_names
            )
    except pickle.UnpicklingError as error:
        if trust:
            raise _damaged(file, error) from error
        raise _refusal(file, error) from error
    except (ImportError, AttributeError) as error:
        raise (_lacks_code(file, error) if trust else _damaged(file, error)) from error
    except Exception as error:
        raise _damaged(file, error) from error


class _OnCpu(former_names.Unpickler):
    """Unpickles what pickle.dump wrote, tensors of other devices too."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the class that a pickle names."""
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _from_bytes
        return super().find_class(module, name)


def _from_bytes(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def load_export(file: Path, *, trust: bool) -> nn.Module:
    """Loads a torch.export.save file.

    Raises: ArchiveError without trust: torch's reader evaluates expressions and pickles in it.
    """
    if not trust:
        raise ArchiveError(
            f"{file} is a torch.export program, and opening one can run code from the file (torch "
            f"evaluates expressions and pickles in it); {on_trust(file)}. Then gfx.save it as "
            ".gfx, which opens without"
        )
    search_current_folder()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how its own file is laid out
            return torch.export.load(file).module()
    except Exception as error:
        raise _damaged(file, error) from error


def on_trust(file: Path) -> str:
    """Writes the end of a sentence that says how a file is trusted.

    Example:
        >>> on_trust(Path("a.pt"))
        "if you trust its author, pass --trust (in Python gfx.open_model('a.pt', trust=True)), \
which runs code from the file"
    """
    return (
        f"if you trust its author, pass --trust (in Python gfx.open_model({str(file)!r}, "
        "trust=True)), which runs code from the file"
    )


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
            f"when it is opened; save it with gfx.save as .gfx instead, or {on_trust(file)}"
        )
    if not wanted:
        return ArchiveError(
            f"{file} cannot be opened without running code from it, or is damaged "
            f"({_reason(error)}); save the model again with torch.save, or {on_trust(file)}"
        )
    return ArchiveError(
        f"{file} is a pickle that wants to use {', '.join(wanted)}; nothing was executed. If that "
        "is your own model class, save its state_dict() and pass --model package.module:factory or "
        f"--model file.py:factory; or, {on_trust(file)}"
    )


def _wanted(file: Path) -> list[str]:
    """Lists what a pickle names beyond the allow-list, reading it without running it."""
    try:
        with torch.serialization.safe_globals(_allowed()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # not of the present format, or damaged
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
        except Exception:  # pickletools raises what it likes on what is no pickle
            pass  # the raw tensors begin here, or the file ends early
    return sorted(name for name in names if not _PLAIN.match(name))


def _is_plain(file: Path) -> bool:
    """Whether a pickle was written by pickle.dump, not by torch.save."""
    with open(file, "rb") as stream:
        if stream.read(4) == b"PK\x03\x04":
            return False
        stream.seek(0)
        try:
            # torch.save writes: the protocol, the magic number, stop
            first = [argument for _, argument, _ in itertools.islice(pickletools.genops(stream), 2)]
        except Exception:  # damaged: torch says how
            return False
    return _MAGIC not in first


def _plain_refusal(file: Path) -> ArchiveError:
    names = _globals_of_stream(file)
    known = next(
        (said for name, said in _KNOWN.items() if any(n.startswith(name) for n in names)), ""
    )
    return ArchiveError(
        f"{file} is a plain pickle, written by pickle.dump and not by torch.save"
        + (f", that wants to use {', '.join(names[:8])}" if names else "")
        + "; nothing was executed. "
        + (f"It holds {known}. " if known else "")
        + f"Opening one runs code from it: {on_trust(file)}"
    )


def _lacks_code(file: Path, error: Exception) -> ArchiveError:
    """Explains which code a trusted pickle wanted and did not find."""
    if isinstance(error, ModuleNotFoundError):
        what = f"the module {error.name!r}, which is not in {Path.cwd()} or among what is installed"
        return ArchiveError(f"{file} needs {what}; run gfx in the folder of the model's code")
    return ArchiveError(
        f"{file} needs code that is not there ({_reason(error)}); run gfx in the folder of the "
        "model's code, or save the model's state_dict() and pass --model file.py:factory"
    )


def _reason(error: Exception) -> str:
    """Extracts the sentence with the cause from an error of torch.load."""
    text = str(error).partition("Check the documentation")[0].strip()
    return f"{type(error).__name__}: {text.splitlines()[-1].strip()[:200] if text else 'no reason'}"


def _damaged(file: Path, error: Exception) -> ArchiveError:
    return ArchiveError(
        f"{file} cannot be opened: it is truncated, damaged or not written by torch.save "
        f"({_reason(error)})"
    )
