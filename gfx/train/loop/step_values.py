"""Computes what the terms of an objective ask for of one training step, once each.

1. The image and the features of the generator are cut off from it: terms are differentiated up to
   the cut, and the generator once, from there.
2. The discriminator sees the cut image once for both players, as long as its weights are the same.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from gfx.errors import InputError, did_you_mean
from gfx.train.loop.split_scores import split_scores
from gfx.train.loop.teacher import TeacherValues
from gfx.train.tasks import Batch, Task
from gfx.train.terms.term import Features

__all__ = ["CutValues", "Reruns"]

Judge = Callable[[Tensor], Any]
Run = Callable[[Tensor], Tensor]  # a generator, on other inputs
Adding = Callable[["CutValues"], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Reruns:
    """The generators that terms run beside the step: the one that learns, and those that lead back.

    Their weights get gradients.
    """

    own: Run
    back: Mapping[str, Run] = field(default_factory=dict)  # by name
    # what side players make of the values of a step, by the names that they add
    added: Mapping[str, "Adding"] = field(default_factory=dict)


class CutValues:
    """The values of one step; see `gfx.train.terms.term.StepValues`."""

    def __init__(
        self,
        task: Task,
        batch: Batch,
        image: Tensor,
        features: Features,
        judge: Judge | None,
        teachers: Callable[[], tuple[TeacherValues, ...]],
        reruns: Reruns,
        instead: Tensor | None = None,
        counted: float = 1.0,
    ) -> None:
        self.counted = counted  # the share of the step's examples that these are
        self.task, self.batch = task, batch
        self._instead = instead  # an image that stands for the truth, and for the teachers'
        self.made, self.made_features = image, features  # of the generator, with its graph
        self.image = image.detach().requires_grad_(image.requires_grad)
        self.features = {
            tap: value.detach().requires_grad_(value.requires_grad)
            for tap, value in features.items()
        }
        self._judge, self._teachers, self._reruns = judge, teachers, reruns
        self._shown: tuple[TeacherValues, ...] | None = None
        self._of_fake: Any = None
        self._of_real: Any = None
        self._added: dict[str, Tensor] = {}

    @property
    def given(self) -> Tensor:
        """The input image."""
        found: Tensor = self.task.inputs(self.batch)[0]
        return found

    @property
    def target(self) -> Tensor | None:
        """The ground truth, where the batch has it; or what stands for it."""
        return self.task.target(self.batch) if self._instead is None else self._instead

    @property
    def labelled(self) -> Tensor | None:
        """Which examples have their ground truth; None: the task does not ask."""
        return self.batch.labelled

    def target_else(self, other: Tensor) -> Tensor:
        """Returns the ground truth of the examples that have one, and of the rest what is given."""
        if self._instead is not None:
            return self._instead
        return self.task.target_else(self.batch, other)

    @property
    def real(self) -> Tensor:
        """Real images."""
        return self.task.real(self.batch)

    @property
    def scores_of_fake(self) -> Any:
        """What the discriminator says of the image (rule 2)."""
        return split_scores(self.task, self._fake())[0]

    @property
    def scores_of_real(self) -> Any:
        """What it says of the real images."""
        return split_scores(self.task, self._true())[0]

    def led_back(self, by: str | None = None) -> Tensor:
        """Returns what the generator that leads back makes of the image."""
        back = self._reruns.back
        # recipes are checked: there is one, or it is named
        return back[next(iter(back)) if by is None else by](self.image)

    def rerun(self, image: Tensor) -> Tensor:
        """Returns what the generator that learns makes of another input."""
        return self._reruns.own(image)

    def added(self, name: str) -> Tensor:
        """Returns a value that a player of the stage adds.

        Raises: InputError if none does.
        """
        if name not in self._added:
            if name not in self._reruns.added:
                raise InputError(
                    f"no player of the stage adds {name!r}, and it is asked for"
                    f"{did_you_mean(name, self._reruns.added)}"
                )
            self._added |= self._reruns.added[name](self)
        return self._added[name]

    def label_loss(self, *, fake: bool) -> Tensor:
        """Returns the loss of the labels that the discriminator names.

        Raises: InputError if it names none.
        """
        _, logits = split_scores(self.task, self._fake() if fake else self._true())
        if logits is None:
            raise InputError(
                "labels: the discriminator returns no logits of labels beside its scores; take one "
                "that does, as zoo:stargan_discriminator, or leave the term out"
            )
        return self.task.label_loss(self.batch, logits, fake=fake)

    @property
    def teachers(self) -> tuple[TeacherValues, ...]:
        """What the teachers make of the batch."""
        if self._shown is None:
            shown = self._teachers()
            if self._instead is not None:
                shown = tuple(replace(each, made=self._instead) for each in shown)
            self._shown = shown
        return self._shown

    def shares_scores_of_real(self, other: "CutValues") -> None:
        """Takes what the discriminator said of the same real images for other values."""
        self._of_real = other._of_real

    def with_scores_of_fake(self, said: Any) -> "CutValues":
        """Returns the values with what the discriminator says of other fakes."""
        made = copy.copy(self)
        made._of_real, made._of_fake = self._true(), said
        return made

    def without_added(self) -> "CutValues":
        """Returns the same values, before players have added to them."""
        made = copy.copy(self)
        made._added = {}
        return made

    def discriminator_changed(self) -> None:
        """Forgets what the discriminator said before its weights changed."""
        self._of_fake = self._of_real = None

    def leaves(self) -> list[Tensor]:
        """Returns what was cut off and has gradients."""
        return [each for each in (self.image, *self.features.values()) if each.requires_grad]

    def gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Returns what the generator made, and the gradients of the objective to it."""
        pairs = [
            (self.made, self.image),
            *((self.made_features[tap], leaf) for tap, leaf in self.features.items()),
        ]
        found = [(made, leaf.grad) for made, leaf in pairs if leaf.grad is not None]
        return [made for made, _ in found], [grad for _, grad in found]

    def _fake(self) -> Any:
        if self._of_fake is None:
            self._of_fake = self._judged(self.image)
        return self._of_fake

    def _true(self) -> Any:
        if self._of_real is None:
            self._of_real = self._judged(self.real)
        return self._of_real

    def _judged(self, image: Tensor) -> Any:
        if self._judge is None:
            raise InputError(
                "the stage has no discriminator, and what it says is asked for; let the kind that "
                "asks have needs = frozenset({'discriminator'})"
            )
        return self._judge(image)
