"""Defines the base classes of losses."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.losses.checks import Features, finite, near, numbers, paired, size, wide, widely

__all__ = ["Loss", "Pairs", "TapLoss", "described", "labels"]

Pairs = Mapping[str, tuple[Tensor, Tensor]]


class Loss(nn.Module):
    """Computes one term of the objective of a student.

    Gradients go to the student only; teacher values are detached. 16-bit inputs, and all inputs
    under autocast, are computed in float32. A result that is not finite is an error that names the
    term and the input. On a GPU this waits for one number at each call; set `checked` to False to
    skip it, as under torch.compile with fullgraph.
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
        """Returns the value, if it is finite or `checked` is False.

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

    `adapters` has the f_t by tap: what `gfx.adapters` builds, an nn.ModuleDict, or one layer where
    features are one tensor. They are part of this module: give `loss.parameters()` to the
    optimizer. A tap without one is compared as it is. `adapts="teacher"` puts the f_t on the
    teacher's features instead, which still get no gradient; f_t do. `weights` has the λ_t by tap,
    1 where none is given.

    Shapes: (N, C, ...) each; features as `gfx.tapped` returns them, a list, or one tensor.
    """

    def __init__(
        self,
        adapters: nn.Module | None = None,
        weights: Mapping[str, float] | None = None,
        adapts: Literal["student", "teacher"] = "student",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if adapts not in ("student", "teacher"):
            raise InputError(f"{self.name}: adapts={adapts!r}; give 'student' or 'teacher'")
        self.adapters = adapters
        self.weights = numbers(self.name, "the weight of", weights or {})
        self.adapts = adapts

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
        """Returns the features by tap, adapted, wide enough to sum.

        Raises: InputError if weights or adapters are of other taps, or of other widths.
        """
        layers = _layers(self.adapters)
        for what, names in (("weights", self.weights), ("adapters", layers)):
            for tap in names:
                if tap not in given:
                    raise InputError(f"{self.name}: {what} has {tap!r}, no tap{near(tap, given)}")
        found = {}
        for tap, (ours, theirs) in given.items():
            if ours.dim() < 2:
                raise InputError(
                    f"{self.name}: {described(tap)} is {size(ours)}; features are (N, C, ...)"
                )
            if tap in layers and self.adapts == "student":
                ours = self._adapt(tap, layers[tap], ours)
            elif tap in layers:
                theirs = self._adapt(tap, layers[tap], theirs)
            found[tap] = wide(ours), wide(theirs)
        return found

    def _adapt(self, tap: str, layer: nn.Module, feature: Tensor) -> Tensor:
        weight = next(layer.parameters(), None)
        if weight is not None and not torch.is_autocast_enabled(feature.device.type):
            feature = feature.to(weight.dtype)
        try:
            found: Tensor = layer(feature)
        except RuntimeError as error:
            raise InputError(
                f"{self.name}: the adapter of {described(tap)}, {layer}, does not take the "
                f"{self.adapts}'s {size(feature)}; build the adapters anew, by gfx.adapters"
            ) from error
        return found


def _layers(adapters: nn.Module | None) -> Mapping[str, nn.Module]:
    if adapters is None:
        return {}
    layers = getattr(adapters, "layers", adapters)  # as those of gfx.adapters have it
    return dict(layers.items()) if isinstance(layers, nn.ModuleDict) else {"": adapters}


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
            found[f"the student's adapted {end}"], found[f"the teacher's adapted {end}"] = adapted[
                tap
            ]
    return found
