"""What losses have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.tune.losses.checks import Features, finite, near, paired, size, wide, widely

__all__ = ["Loss", "Pairs", "TapLoss", "described", "labels"]

Pairs = Mapping[str, tuple[Tensor, Tensor]]


class Loss(nn.Module):
    """Computes one term of the objective of a student.

    Gradients go to the student only; what is the teacher's is detached. 16-bit inputs, and all
    under autocast, are computed in float32. A result that is not finite is an error that names the
    term and the input. On a GPU that means to wait for one number at each call; set `checked` to
    False to leave it out, as under torch.compile with fullgraph.
    """

    checked: bool = True

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name or type(self).__name__  # in errors

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """Returns the value, a tensor of no dimensions."""
        result: Tensor = super().__call__(*args, **options)
        return result

    def sound(
        self, value: Tensor, inputs: Mapping[str, Tensor], hidden: Sequence[Tensor] = ()
    ) -> Tensor:
        """Returns the value, if it is finite or nobody wants to know.

        Raises: InputError if it is not finite.
        """
        return finite(self.name, value, inputs, hidden) if self.checked else value

    def same_size(self, what: str, student: Tensor, teacher: Tensor, advice: str = "") -> None:
        """Refuses tensors of different sizes: torch would broadcast them.

        Raises: InputError if they differ.
        """
        if student.shape != teacher.shape:
            raise InputError(
                f"{self.name}: {what} is {size(student)} in the student and {size(teacher)} in "
                f"the teacher{advice}"
            )


class TapLoss(Loss):
    """Compares features of a student with those of its teacher, tap by tap.

    Σ_t λ_t · term(f_t(S_t), T_t)

    `adapters` has the f_t by tap, as `gfx.adapters` builds them; a tap it has none for is compared
    as it is. They are part of this module: give `loss.parameters()` to the optimizer. `weights` has
    the λ_t by tap, 1 where none is given.

    Shapes: (N, C, ...) each; features as `gfx.tapped` returns them, a list, or one tensor.
    """

    def __init__(
        self,
        adapters: nn.Module | None = None,
        weights: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.adapters = adapters
        self.weights = dict(weights or {})

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Returns the sum over the taps.

        Raises: InputError if taps or sizes differ, or something is not finite.
        """
        given = paired(self.name, student, teacher)
        pairs = self.adapted(given)
        terms = []
        for tap, (ours, theirs) in pairs.items():
            with widely(ours):
                terms.append(self.weights.get(tap, 1.0) * self.term(tap, ours, theirs))
        return self.sound(torch.stack(terms).sum(), labels(given, pairs))

    def term(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Compares two features of one tap."""
        raise NotImplementedError

    def adapted(self, given: Pairs) -> Pairs:
        """Returns the features by tap, the student's adapted, wide enough to sum.

        Raises: InputError if weights or adapters are of other taps, or of other widths.
        """
        for what, names in (("weights", self.weights), ("adapters", _names(self.adapters))):
            for tap in names:
                if tap not in given:
                    raise InputError(f"{self.name}: {what} has {tap!r}, no tap; {near(tap, given)}")
        for tap, (ours, _) in given.items():
            if ours.dim() < 2:
                raise InputError(
                    f"{self.name}: {described(tap)} is {size(ours)}; features are (N, C, ...)"
                )
        return {
            tap: (wide(self._adapted(tap, ours)), wide(theirs))
            for tap, (ours, theirs) in given.items()
        }

    def _adapted(self, tap: str, student: Tensor) -> Tensor:
        adapter = _find(self.adapters, tap)
        if adapter is None:
            return student
        weight = next(adapter.parameters(), None)
        if weight is None:
            return adapter(student)  # type: ignore[no-any-return]
        channels = getattr(adapter, "in_channels", student.shape[1])
        if channels != student.shape[1]:
            raise InputError(
                f"{self.name}: the adapter of {described(tap)} reads {channels} channels and the "
                f"student has {student.shape[1]}; build the adapters anew, by gfx.adapters"
            )
        if not torch.is_autocast_enabled(student.device.type):
            student = student.to(weight.dtype)
        return adapter(student)  # type: ignore[no-any-return]


def _find(adapters: nn.Module | None, tap: str) -> nn.Module | None:
    if isinstance(adapters, nn.ModuleDict):
        # a ModuleDict has no get
        return adapters[tap] if tap in adapters else None  # noqa: SIM401
    return adapters  # one tensor, one adapter


def _names(adapters: nn.Module | None) -> list[str]:
    if adapters is None:
        return []
    return list(adapters) if isinstance(adapters, nn.ModuleDict) else [""]


def described(tap: str) -> str:
    """Names a feature in an error."""
    return f"the feature {tap!r}" if tap else "the feature"


def labels(given: Pairs, adapted: Pairs | None = None) -> dict[str, Tensor]:
    """Names the features of pairs as errors do."""
    found = {}
    for tap, (student, teacher) in given.items():
        end = f"feature {tap!r}" if tap else "feature"
        found[f"the student's {end}"] = student
        found[f"the teacher's {end}"] = teacher
        if adapted is not None:
            found[f"the student's adapted {end}"] = adapted[tap][0]
    return found
