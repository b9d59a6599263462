"""Binds the models to time to the same inputs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gfx.errors import GfxError, InputError
from gfx.frontend import trace
from gfx.frontend.inputs.bind import Argument, Arguments, bind, has_tensor
from gfx.frontend.inputs.infer import Inferred, infer, remembered
from gfx.frontend.private_copy import private_copy, unwrap
from gfx.ir.model_kinds import require_module
from gfx.ir.program import Program
from gfx.objects.take_apart import leaves, mapped

__all__ = ["Bound", "TimedModel", "batch_of", "check_alike", "shapes_of", "subjects"]

Model = nn.Module | Program


class Bound(nn.Module):
    """Calls a model with its tensors by position; other arguments stay as given.

    Example:
        >>> layer = nn.LeakyReLU()
        >>> Bound(layer, bind(layer, {"input": torch.ones(2)}))(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, model: nn.Module, arguments: Arguments) -> None:
        super().__init__()
        self.model = model
        blank = [replace(i, value=None) if i.is_input else i for i in arguments.items]
        self.arguments = Arguments(tuple(blank))

    def forward(self, *inputs: Any) -> Any:
        """Runs the model."""
        given = iter(inputs)
        values = [next(given) if i.is_input else i.value for i in self.arguments.items]
        return self.arguments.call(self.model, values)


@dataclass(frozen=True)
class TimedModel:
    """Holds a model and the inputs it is timed on."""

    name: str
    module: nn.Module  # takes the inputs by position
    inputs: tuple[Any, ...]
    model: Model  # as it was given
    example: Any  # the inputs, as `gfx.trace` takes them
    assumed: tuple[str, ...] = ()  # sentences about inferred inputs

    def traced(self, *, check: bool) -> "Program | str":
        """Returns the model as a program, or why it has none."""
        if isinstance(self.model, Program):
            return self.model
        try:
            return trace(self.model, self.example, check=check)
        except GfxError as error:
            return str(error)

    @property
    def model_bytes(self) -> int:
        """The bytes of parameters and buffers; shared memory counts once."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        held = {(t.device, t.untyped_storage().data_ptr(), t.shape): t.nbytes for t in tensors}
        return sum(held.values())


def subjects(
    model: Model, example_inputs: Any, against: Model | None, names: tuple[str, str]
) -> list[TimedModel]:
    """Binds a model, and the one it is compared with, to the same inputs.

    Given inputs are for both. Otherwise they are those that the model was made for, those that
    the other was made for, or inferred from the model.

    Raises: InputError if a model is no module, the inputs do not fit, none can be inferred, or
    the two were made for inputs of different shapes.
    """
    module = _module(model)
    known = _known(model)
    if example_inputs is not None:
        found = Inferred(bind(module, example_inputs))
    elif against is None:
        found = known or infer(private_copy(module))
    else:
        other = _known(against)
        if known is not None and other is not None:
            check_alike(names, known.arguments.inputs(), other.arguments.inputs())
        found = known or _borrowed(module, other) or infer(private_copy(module))
    example = _example(found.arguments) if example_inputs is None else example_inputs
    made = [_subject(names[0], model, example, found.assumed)]
    if against is not None:
        made.append(_subject(names[1], against, _cast(example, module, _module(against))))
    return made


def check_alike(names: tuple[str, str], first: Any, second: Any) -> None:
    """Checks that two models were made for inputs of the same shapes.

    Raises: InputError if they were not; times at different sizes do not compare.

    Example:
        >>> check_alike(("small", "large"), torch.ones(1, 3), torch.zeros(1, 3))
    """
    mine, other = shapes_of(first), shapes_of(second)
    if mine != other:
        raise InputError(
            f"{names[0]} is for inputs of {_written(mine)} and {names[1]} for {_written(other)}: "
            "times at different sizes do not compare; give both the same inputs with "
            "example_inputs=, in the shell --input 1x3x256x256"
        )


def shapes_of(inputs: Any) -> list[tuple[int, ...]]:
    """Lists the shapes of the tensors among inputs.

    Example:
        >>> shapes_of((torch.ones(1, 3, 8, 8), 0.5))
        [(1, 3, 8, 8)]
    """
    return [tuple(x.shape) for x in leaves(inputs) if isinstance(x, torch.Tensor)]


def batch_of(inputs: Any) -> int:
    """Returns how many images one run makes: the first size of the first input that has one.

    Example:
        >>> batch_of((torch.ones(4, 100), torch.ones(4)))
        4
    """
    return next((shape[0] for shape in shapes_of(inputs) if shape), 1)


def _module(model: Model) -> nn.Module:
    if isinstance(model, Program):
        return model.module
    return unwrap(require_module(model))


def _known(model: Model) -> Inferred | None:
    """Returns the inputs that a model was made for, if it records them."""
    if isinstance(model, Program):
        return Inferred(bind(model.module, model.example_inputs))
    return remembered(_module(model))


def _borrowed(module: nn.Module, other: Inferred | None) -> Inferred | None:
    if other is None:
        return None
    return Inferred(bind(module, _example(other.arguments)))


def _example(arguments: Arguments) -> Any:
    """Returns arguments for `bind`: by position if that is enough, else by name."""
    if all(item.is_input and not item.keyword for item in arguments.items):
        return arguments.inputs()
    return {item.name: item.value for item in arguments.items if has_tensor(item.value)}


def _subject(name: str, model: Model, example: Any, assumed: tuple[str, ...] = ()) -> TimedModel:
    module = _module(model)
    try:
        arguments = bind(module, example)
    except InputError as error:
        raise InputError(f"{name} does not take these inputs: {error}") from error
    plain = all(_by_place(item) for item in arguments.items)
    made = module if plain else Bound(module, arguments)
    return TimedModel(name, made, arguments.inputs(), model, example, assumed)


def _by_place(item: Argument) -> bool:
    return item.is_input and not item.keyword


def _cast(example: Any, model: nn.Module, other: nn.Module) -> Any:
    """Casts inputs that have the model's dtype to that of the other, such as half precision."""
    mine, its = _dtype(model), _dtype(other)
    if mine == its or None in (mine, its):
        return example
    return mapped(lambda x: x.to(its) if x.dtype == mine else x, example)


def _dtype(model: nn.Module) -> torch.dtype | None:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def _written(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "a scalar" for shape in shapes) or "none"
