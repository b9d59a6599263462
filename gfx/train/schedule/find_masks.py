"""Finds masks and penalties in a model, also in a wrapped one."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import fx, nn

from gfx.errors import InputError
from gfx.frontend.inputs.infer import infer, remembered
from gfx.ir.modules import ChannelMask, MaskedLayer, Penalty, Tap
from gfx.ir.program import Program

__all__ = [
    "HeldTensor",
    "Mask",
    "Masked",
    "Penalised",
    "has_masks",
    "kind_of",
    "masked_in",
    "penalised_in",
    "program_of",
]

Mask = ChannelMask | MaskedLayer

_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


@dataclass(frozen=True)
class Masked:
    """One mask of a model.

    Example:
        >>> model = fx.symbolic_trace(nn.Sequential(nn.Identity()))
        >>> list(masked_in(model))
        []
    """

    name: str  # path in the model, without its wrappers
    module: Mask
    path: str  # in `home`
    home: fx.GraphModule  # the graph that calls it


@dataclass(frozen=True)
class HeldTensor:
    """A tensor by its owner: a model that is moved, or loaded, may hold another one."""

    owner: nn.Module
    attribute: str
    name: str  # for messages

    @property
    def value(self) -> nn.Parameter:
        """The tensor that is held now."""
        return cast(nn.Parameter, getattr(self.owner, self.attribute))


@dataclass(frozen=True)
class Penalised:
    """A weight, and the penalty on it."""

    name: str  # path of the penalty in the model
    penalty: Penalty
    weight: HeldTensor


def kind_of(mask: Masked) -> str:
    """Returns the method that a mask follows: agp, ppcd, slimming or l1."""
    return mask.module.kind if isinstance(mask.module, ChannelMask) else "agp"


def has_masks(net: nn.Module) -> bool:
    """Whether a net holds masks or penalties, which a schedule steps."""
    return any(True for _ in masked_in(net)) or any(True for _ in penalised_in(net))


def masked_in(model: nn.Module) -> Iterator[Masked]:
    """Iterates over the masks that graphs in a model call, each once."""
    seen: set[int] = set()
    for prefix, home, node in _calls(model):
        module = home.get_submodule(str(node.target))
        if isinstance(module, ChannelMask | MaskedLayer) and id(module) not in seen:
            seen.add(id(module))
            path = str(node.target)
            yield Masked(f"{prefix}{path}", module, path, home)


def penalised_in(model: nn.Module) -> Iterator[Penalised]:
    """Iterates over the weights under a penalty, each once.

    Raises: InputError if what makes the input of a penalty has no weight.
    """
    seen: set[int] = set()
    for prefix, home, node in _calls(model):
        penalty = home.get_submodule(str(node.target))
        if not isinstance(penalty, Penalty):
            continue
        name = f"{prefix}{node.target}"
        path = _weighted(home, node)
        owner = home.get_submodule(path) if path is not None else None
        if owner is None or getattr(owner, "weight", None) is None:
            raise InputError(
                f"{name} penalises the weight of the layer that makes its input, and "
                f"{node.all_input_nodes[0]} has none; run mask after the passes that rewrite layers"
            )
        if id(owner) not in seen:
            seen.add(id(owner))
            yield Penalised(name, penalty, HeldTensor(owner, "weight", f"{prefix}{path}.weight"))


def program_of(home: fx.GraphModule) -> Program:
    """Builds a program of a graph, which shares the parameters of its module.

    Raises: InputError if no inputs are known that the module runs on.
    """
    twin = fx.GraphModule(home, copy.deepcopy(home.graph))
    twin.meta = dict(home.meta)
    inputs = remembered(twin) or infer(twin)  # a wrapper may have replaced the forward
    return Program(twin, tuple(inputs.arguments.values()))


def _calls(model: nn.Module) -> Iterator[tuple[str, fx.GraphModule, fx.Node]]:
    """Iterates over the calls of modules in all graphs, each with the path of its graph."""
    for path, home in model.named_modules():
        if not isinstance(home, fx.GraphModule):
            continue
        plain = _unwrapped(model, path)
        for node in home.graph.nodes:
            if node.op == "call_module":
                yield f"{plain}." if plain else "", home, node


def _unwrapped(model: nn.Module, path: str) -> str:
    """Removes the names that torch.compile and data parallelism add to a path."""
    found, owner = [], model
    for name in path.split(".") if path else []:
        wrapped = isinstance(owner, _WRAPPERS) and name == "module"
        owner = cast(nn.Module, owner._modules[name])
        if not wrapped and name != "_orig_mod":
            found.append(name)
    return ".".join(found)


def _weighted(home: fx.GraphModule, node: fx.Node) -> str | None:
    """Returns the layer that makes the input of a penalty, before taps, masks and the like."""
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        if node.op != "call_module":
            return None
        if not isinstance(home.get_submodule(str(node.target)), Tap | Penalty | ChannelMask):
            return str(node.target)
    return None
