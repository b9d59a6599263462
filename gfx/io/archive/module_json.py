"""Writes modules as a class name and constructor arguments, and rebuilds them.

Arguments are derived, not listed: a parameter of `__init__` is the attribute of that name. The
table below holds what torch spells differently. Each module is rebuilt from its spec when it is
saved, and compared, so a spec that would not give the same module is refused at once.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from gfx.errors import ArchiveError
from gfx.io.archive.graph_json import decode, encode
from gfx.ir.computed_tensors import folding
from gfx.ir.modules import MASKED, OWN, ChannelMask, Ramp, is_index
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program

__all__ = ["build_module", "is_container", "module_spec"]

# modules that hold others; an empty one is made and filled
_CONTAINERS: tuple[type[nn.Module], ...] = (
    nn.Module,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
)
_NOT_LEAVES = {"Container", "DataParallel", "Module", "ModuleDict", "ModuleList", "ParameterDict"}
_NOT_LEAVES |= {"ParameterList", "Sequential"}
_RNN = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"]
_RNN += ["bidirectional", "proj_size"]
# constructor arguments whose attribute has another name or form
_SPECIAL: dict[str, dict[str, Callable[[Any], Any]]] = {
    "torch.nn.MultiheadAttention": {
        "bias": lambda m: m.in_proj_bias is not None,
        "add_bias_kv": lambda m: m.bias_k is not None,
    },
    "torch.nn.TransformerEncoderLayer": {
        "d_model": lambda m: m.self_attn.embed_dim,
        "nhead": lambda m: m.self_attn.num_heads,
        "dim_feedforward": lambda m: m.linear1.out_features,
        "dropout": lambda m: m.dropout.p,
        "activation": lambda m: _activation(m.activation),
        "layer_norm_eps": lambda m: m.norm1.eps,
        "batch_first": lambda m: m.self_attn.batch_first,
        "bias": lambda m: m.linear1.bias is not None,
    },
}
# of gfx's own layers; a name in a file is looked up here, and nothing is imported for it
_OWN = {f"gfx.modules.{kind.__name__}": kind for kind in sorted(OWN, key=lambda k: k.__name__)}
_OWN_NAMES = {kind: name for name, kind in _OWN.items()}
_PLAIN = {masked: plain for plain, masked in MASKED.items()}
# what __init__ hides behind *args
_HIDDEN = {
    "torch.nn.RNN": [*_RNN[:3], "nonlinearity", *_RNN[3:-1]],
    "torch.nn.LSTM": _RNN,
    "torch.nn.GRU": _RNN[:-1],
}
# bookkeeping that other attributes decide
_DERIVED = {
    "_flat_weights",
    "_flat_weight_refs",
    "training",
    "_parameters",
    "_buffers",
    "_modules",
    "_placed",
}


def is_container(module: nn.Module) -> bool:
    """Whether a module is filled after it is made, not built from arguments."""
    return type(module) in _CONTAINERS


def module_spec(module: nn.Module, path: str, within: Program | None = None) -> dict[str, Any]:
    """Writes a called module as `{"class": name, "args": {...}}`; `within` is what it is part of.

    Raises: ArchiveError if its class is not of torch.nn, or the class and its arguments do not say
        all there is to it (hooks, parametrizations, changed attributes).

    Example:
        >>> module_spec(nn.ReLU(), "act")
        {'class': 'torch.nn.ReLU', 'args': {}}
    """
    _refuse_hooks(module, path, within)
    name = _OWN_NAMES.get(type(module), f"torch.nn.{type(module).__name__}")
    if is_container(module):
        return {"class": name}
    if _classes().get(name) is not type(module):
        raise ArchiveError(
            f"module {path} is a {type(module).__module__}.{type(module).__qualname__}; a .gfx "
            "file holds classes of torch.nn and of gfx only; save as .pt, which holds any class"
        )
    spec = {"class": name, "args": {k: encode(v) for k, v in _arguments(module, name, path)}}
    _compare(module, build_module(spec, path), path)
    return spec


def build_module(spec: dict[str, Any], path: str) -> nn.Module:
    """Builds a module from its spec, with parameters that have shapes but no data (device meta).

    Raises: ArchiveError if the class is not on the allow-list or refuses the arguments.
    """
    name = spec["class"]
    for container in _CONTAINERS:
        if name == f"torch.nn.{container.__name__}":
            return container()
    if name not in _classes():
        raise ArchiveError(
            f"the file asks for the class {name}, which is not on the allow-list of torch.nn and "
            "gfx.modules"
        )
    arguments = {key: decode(value, {}) for key, value in spec["args"].items()}
    try:
        with torch.device("meta"):
            return _classes()[name](**arguments)
    except Exception as error:
        raise ArchiveError(f"module {path}: {name} refuses {arguments}: {error}") from error


@functools.cache
def _classes() -> dict[str, type[nn.Module]]:
    """Returns the leaf classes of torch.nn, and gfx's own, by name."""
    return {
        f"torch.nn.{name}": value
        for name, value in sorted(vars(nn).items())
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and name not in _NOT_LEAVES
        and not name.startswith("Lazy")
    } | _OWN


def _arguments(module: nn.Module, name: str, path: str) -> Iterator[tuple[str, Any]]:
    """Yields the constructor arguments that rebuild a module, defaults left out."""
    special = _SPECIAL.get(name, {})
    for argument in _HIDDEN.get(name, []):
        yield argument, getattr(module, argument)
    for parameter in _parameters(type(module)):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        argument = parameter.name
        if argument in ("device", "dtype"):
            continue  # the tensors in the file decide
        if argument in special:
            value = special[argument](module)
        elif argument in module._parameters:
            value = module._parameters[argument] is not None
        else:
            value = getattr(module, argument, parameter.default)
            value = tuple(value) if isinstance(value, Ramp) else value
        if value is parameter.empty:
            raise ArchiveError(
                f"module {path}: gfx cannot tell the argument {argument} of {name}; save as .pt"
            )
        # an older torch may lack an argument that a newer one has
        if type(value) is not type(parameter.default) or value != parameter.default:
            yield argument, value


def _parameters(kind: type[nn.Module]) -> list[inspect.Parameter]:
    """Lists the parameters of a constructor; a masked layer hands on those of the plain one."""
    kinds = (kind, _PLAIN[kind]) if kind in _PLAIN else (kind,)
    return [p for k in kinds for p in list(inspect.signature(k.__init__).parameters.values())[1:]]


def _compare(module: nn.Module, rebuilt: nn.Module, path: str) -> None:
    """Raises ArchiveError unless the rebuilt module is the original, values of tensors apart."""
    difference = next(_differences(module, rebuilt), None)
    if difference:
        raise ArchiveError(
            f"module {path} ({type(module).__name__}) is not what its constructor makes: "
            f"{difference}; save as .pt"
        )


def _differences(module: nn.Module, rebuilt: nn.Module) -> Iterator[str]:
    if type(module) is not type(rebuilt):
        yield f"a {type(module).__name__} stands where {type(rebuilt).__name__} is made"
        return
    for key, expected in vars(rebuilt).items():
        if key in _DERIVED or "_hooks" in key:
            continue
        value = vars(module).get(key)
        if not isinstance(expected, torch.Tensor) and not _same(value, expected):
            yield f"{key} is {value!r}, not {expected!r}"
    for key in vars(module).keys() - vars(rebuilt).keys():
        if hasattr(type(module), key):
            yield f"{key} is overridden on the instance"
    for kind in ("_parameters", "_buffers"):
        mine, made = _shapes(getattr(module, kind)), _shapes(getattr(rebuilt, kind))
        if isinstance(module, ChannelMask):  # its places bring their indices
            mine = {name: shape for name, shape in mine.items() if not is_index(name)}
        if mine != made:
            yield f"its {kind[1:]} have shapes {mine}, not {made}"
    if list(module._modules) != list(rebuilt._modules):
        yield f"its parts are {list(module._modules)}, not {list(rebuilt._modules)}"
        return
    for name, child in module.named_children():
        yield from (f"in {name}: {d}" for d in _differences(child, rebuilt.get_submodule(name)))


def _same(value: Any, expected: Any) -> bool:
    if isinstance(expected, (list, tuple)) and isinstance(value, (list, tuple)):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return value is expected or bool(value == expected)


def _shapes(tensors: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {name: None if t is None else tuple(t.shape) for name, t in tensors.items()}


def _refuse_hooks(module: nn.Module, path: str, within: Program | None) -> None:
    for name, part in module.named_modules():
        place = f"{path}.{name}".rstrip(".")
        if hasattr(part, "parametrizations"):
            raise ArchiveError(
                f"module {path} has parametrized weights ({type(part).__name__}); "
                f"{_folding(part, place, within)}"
            )
        hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
        if any(type(hook).__name__ in ("SpectralNorm", "WeightNorm") for hook in hooks):
            raise ArchiveError(
                f"module {path} computes its weight in a hook ({type(hooks[0]).__name__}); "
                f"{_folding(part, place, within)}"
            )
        if hooks or part._backward_hooks or part._backward_pre_hooks:
            raise ArchiveError(
                f"module {path} carries a hook, which a file cannot hold; remove it before saving"
            )


def _folding(part: nn.Module, path: str, within: Program | None) -> str:
    return folding(part) if within is None else folding_in(within, path)


def _activation(function: Callable[..., Any]) -> str:
    return "relu" if function is torch.nn.functional.relu else "gelu"
