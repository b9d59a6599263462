"""Checks the inputs and the result of losses."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from gfx.errors import InputError, did_you_mean

__all__ = [
    "Features",
    "by_name",
    "count",
    "finite",
    "floating",
    "near",
    "numbers",
    "paired",
    "same_device",
    "size",
    "wide",
    "widely",
]

Features = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


def size(value: Tensor) -> str:
    """Writes a shape as in 1x3x64x64."""
    return "x".join(map(str, value.shape)) or "0-dimensional"


def near(name: str, known: Iterable[str]) -> str:
    """Writes the end of a message on an unknown name: the nearest one, else all there are."""
    names = sorted(known)
    return did_you_mean(name, names, f"there are {', '.join(names) or 'none'}")


def wide(value: Tensor) -> Tensor:
    """Returns the tensor in float32 if it has 16 bits: sums would overflow or lose precision."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def widely(value: Tensor) -> AbstractContextManager[Any]:
    """Turns autocast off: it would compute in 16 bits what `wide` widened."""
    return torch.autocast(value.device.type, enabled=False)


def floating(loss: str, what: str, value: Any) -> Tensor:
    """Returns the value if it is a floating tensor.

    Raises: InputError if it is not, or has no elements.
    """
    if not isinstance(value, Tensor):
        raise InputError(f"{loss}: {what} is a {type(value).__name__}; give a tensor")
    if not value.is_floating_point():
        raise InputError(f"{loss}: {what} is of {value.dtype}; give floating values")
    if value.numel() == 0:
        raise InputError(f"{loss}: {what} is empty, {size(value)}")
    return value


def by_name(loss: str, whose: str, features: Features) -> dict[str, Tensor]:
    """Returns features by name: of taps, or their positions in a list.

    Raises: InputError if something in it is no floating tensor, or there is nothing.
    """
    if isinstance(features, Tensor):
        named: dict[str, Any] = {"": features}
    elif isinstance(features, Mapping):
        named = dict(features)
    else:
        named = {str(k): value for k, value in enumerate(features)}
    if not named:
        raise InputError(f"{loss}: the {whose} has no features; tap some layers by distill_taps")
    return {
        name: floating(loss, f"the {whose}'s {f'feature {name!r}' if name else 'feature'}", value)
        for name, value in named.items()
    }


def paired(loss: str, student: Features, teacher: Features) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs the features of a student with those of its teacher, by name.

    Raises: InputError if one has a tap that the other lacks.
    """
    ours = by_name(loss, "student", student)
    theirs = by_name(loss, "teacher", teacher)
    for name in ours:
        if name not in theirs:
            raise InputError(
                f"{loss}: the student has a tap {name!r} and the teacher has not"
                f"{near(name, theirs)} Tap the same layers of both"
            )
    for name in theirs:
        if name not in ours:
            raise InputError(
                f"{loss}: the teacher has a tap {name!r} and the student has not"
                f"{near(name, ours)} Tap the same layers of both"
            )
    for name in ours:
        same_device(loss, f"feature {name!r}" if name else "feature", ours[name], theirs[name])
    return {name: (ours[name], theirs[name].detach()) for name in ours}


def same_device(loss: str, what: str, student: Tensor, teacher: Tensor) -> None:
    """Refuses tensors of two devices.

    Raises: InputError if they are.
    """
    if student.device != teacher.device:
        raise InputError(
            f"{loss}: the {what} is on {student.device} in the student and on {teacher.device} in "
            "the teacher; move one of them"
        )


def numbers(loss: str, what: str, values: Mapping[str, float]) -> dict[str, float]:
    """Returns a copy of the numbers.

    Raises: InputError if one is not finite, or no number.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise InputError(f"{loss}: {what} {name} is {value!r}; give a finite number")
    return dict(values)


def finite(
    loss: str, value: Tensor, inputs: Mapping[str, Tensor], hidden: Sequence[Tensor] = ()
) -> Tensor:
    """Returns the value, if it is finite.

    NaN and inf in an input propagate to the value, so only the value is checked: one number, and
    on a GPU one wait for it. `hidden` are inputs whose inf a loss may lose (a hinge is 0 there, a
    maximum is that of the others); they are checked in the same wait.

    Raises: InputError naming the input, if it is not.
    """
    sound = torch.isfinite(value.detach()).all()
    for each in hidden:
        sound = sound & torch.isfinite(each.detach()).all()
    if bool(sound):
        return value
    for name, given in inputs.items():
        bad = count(given)
        if bad:
            raise InputError(
                f"{loss}: {bad} in {name}; look at what made it, or lower the learning rate"
            )
    largest = max((float(given.detach().abs().max()) for given in inputs.values()), default=0.0)
    raise InputError(
        f"{loss}: the result is {float(value.detach().sum())} while its inputs are finite, up to "
        f"{largest:.3g}; the numbers are too large for {value.dtype}"
    )


def count(value: Tensor) -> str:
    """Says how many values are NaN and inf; nothing if all are finite."""
    nans = int(torch.isnan(value.detach()).sum())
    infs = int(torch.isinf(value.detach()).sum())
    found = [f"{number} {kind}" for number, kind in ((nans, "NaN"), (infs, "inf")) if number]
    return f"{' and '.join(found)} among {value.numel()} values" if found else ""
