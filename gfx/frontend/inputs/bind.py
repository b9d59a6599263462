"""Binds example inputs to the arguments of a forward.

1. Tensors, also those in lists, tuples and dictionaries, become inputs of the graph.
2. Everything else, and every default that is not replaced, is fixed at its value and is no input.
3. But a fixed value that was given by place, with a tensor after it, keeps its place.
4. Objects are taken apart by fields: the graph sees plain containers, and its code takes the
   objects (gfx/objects/).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gfx.errors import InputError
from gfx.objects.object_form import ObjectForm
from gfx.objects.take_apart import leaves, mapped, take_apart

__all__ = ["Argument", "Arguments", "bind", "has_tensor", "required_names"]


@dataclass(frozen=True)
class Argument:
    """One argument of the forward."""

    name: str
    value: Any
    is_input: bool  # the graph has an input of this name
    keyword: bool = False  # the model takes it by name only


@dataclass
class Returned:
    """Notes how the model's last result was taken apart (rule 4)."""

    form: ObjectForm | None = None
    lost: dict[str, str] = field(default_factory=dict)  # classes that are not made again: reasons


@dataclass(frozen=True)
class Arguments:
    """All arguments of one call, in the order of the signature.

    Example:
        >>> bound = bind(nn.Linear(4, 2), torch.ones(1, 4))
        >>> [argument.name for argument in bound.items]
        ['input']
    """

    items: tuple[Argument, ...]
    returned: Returned = field(default_factory=Returned, compare=False)

    def inputs(self) -> tuple[Any, ...]:
        """Returns the values of the graph's inputs, plain: the example inputs of the program."""
        return tuple(take_apart(x.value, named=False)[0] for x in self.items if x.is_input)

    def forms(self) -> tuple[ObjectForm | None, ...]:
        """Returns how each of the graph's inputs is taken apart."""
        return tuple(take_apart(x.value, named=False)[1] for x in self.items if x.is_input)

    def fixed(self) -> list[Argument]:
        """Lists the arguments whose value the graph has built in."""
        return [item for item in self.items if not has_tensor(item.value)]

    def fixed_inside(self) -> list[str]:
        """Says which values the graph has built in that stand beside tensors in an input."""
        found = []
        for item in self.items:
            value = take_apart(item.value)[0] if item.is_input else None
            for path, leaf in pytree.tree_flatten_with_path(value)[0]:
                if path and leaf is not None and not isinstance(leaf, torch.Tensor):
                    place = f"{item.name}{pytree.keystr(path)}"
                    found.append(f"the value {place} of the input is fixed at {leaf!r}")
        return found

    def values(self) -> list[Any]:
        """Lists the values of all arguments."""
        return [item.value for item in self.items]

    def call(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Calls the model with a value for each argument; takes objects that it returns apart."""
        pairs = list(zip(self.items, values, strict=True))
        positional = [value for item, value in pairs if not item.keyword]
        result = function(*positional, **{i.name: value for i, value in pairs if i.keyword})
        found, self.returned.form = take_apart(result, self.returned.lost)
        return found

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Arguments":
        """Returns the same arguments with every tensor changed, in new containers."""
        changed = [mapped(change, v) for v in self.values()]
        pairs = zip(self.items, changed, strict=True)
        items = tuple(replace(item, value=value) for item, value in pairs)
        return replace(self, items=items)


def bind(model: nn.Module, example_inputs: Any) -> Arguments:
    """Binds example inputs to the model's forward.

    They are a tensor, a tuple or list of arguments, or a dictionary of arguments by name.

    Raises: InputError if they do not fit the signature.
    """
    args, kwargs = _split(example_inputs)
    signature = _signature(model)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(
            f"the example inputs do not fit {type(model).__name__}.forward{signature}: {error}"
        ) from error
    items: list[Argument] = []
    for parameter in signature.parameters.values():
        items += _items(parameter, bound.arguments)
    return Arguments(tuple(_keep_places(items, len(args))))


def required_names(model: nn.Module) -> list[str]:
    """Lists the arguments of the forward that have no default.

    Example:
        >>> required_names(nn.Bilinear(2, 2, 2))
        ['input1', 'input2']
    """
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = _signature(model).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in open_ended]


def has_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a container of some."""
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves(value))


def _signature(model: nn.Module) -> inspect.Signature:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError) as error:
        raise InputError(f"{type(model).__name__} has no forward that can be read") from error


def _split(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, dict):
        return (), {str(name): value for name, value in example_inputs.items()}
    if isinstance(example_inputs, list | tuple):
        return tuple(example_inputs), {}
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    raise InputError(
        f"example_inputs is a {type(example_inputs).__name__}; "
        "pass a tensor, a tuple of arguments, or a dictionary of arguments by name"
    )


def _items(parameter: inspect.Parameter, given: dict[str, Any]) -> list[Argument]:
    """Makes the arguments that one parameter of the signature stands for."""
    name = parameter.name
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return [_argument(f"{name}_{i}", v) for i, v in enumerate(given.get(name, ()))]
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return [_argument(key, v, keyword=True) for key, v in given.get(name, {}).items()]
    value = given.get(name, parameter.default)
    return [_argument(name, value, parameter.kind is inspect.Parameter.KEYWORD_ONLY)]


def _argument(name: str, value: Any, keyword: bool = False) -> Argument:
    lost: dict[str, str] = {}
    for leaf in pytree.tree_leaves(take_apart(value, lost, named=False)[0]):
        if type(leaf).__module__ == "numpy" and getattr(leaf, "shape", None):
            raise InputError(f"example input {name} is a numpy array; use torch.as_tensor")
    for kind, reason in lost.items() if has_tensor(value) else ():
        raise InputError(
            f"example input {name} holds a {kind}, which gfx cannot make again: {reason}; let the "
            "model take a dataclass, a tuple or a dictionary"
        )
    return Argument(name, value, has_tensor(value), keyword)


def _keep_places(items: list[Argument], given: int) -> list[Argument]:
    """Applies rule 3."""
    last = max((i for i, item in enumerate(items[:given]) if item.is_input), default=-1)
    return [replace(item, is_input=item.is_input or i < last) for i, item in enumerate(items)]
