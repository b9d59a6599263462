"""Defines filters: which examples a stage draws from, and which of a step count.

1. `examples` is asked once, before the first step: an epoch is one of what it returns, and each
   batch is full of it. What step t sees is still a function of (seed, t) alone.
2. `counts` is asked in each step, with what the generator and its teachers made of the batch,
   without gradients. Examples that do not count add nothing, neither for the generator nor for its
   discriminator; those that do count as much as without the filter: an objective is divided by all
   examples of the step. So several processes do what one does with the batch of all.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from gfx.train.tasks import Task
from gfx.train.terms.term import Need, StepValues

__all__ = ["Filter"]


@dataclass(frozen=True)
class Filter:
    """Chooses the examples of a fit; its fields are what a recipe may say.

    A kind overrides `examples`, or `counts`, or both.

    Example:
        >>> class Clear(Filter):  # in a recipe `data: clear`
        ...     name = "clear"
        ...     def counts(self, values):
        ...         return values.image.flatten(1).std(1) > 0.1
        >>> Clear().by_values, Filter().by_values
        (True, False)
    """

    name: ClassVar[str]  # in recipes
    word: ClassVar[str] = ""  # the field that a bare word sets
    needs: ClassVar[frozenset[Need]] = frozenset()  # what `counts` asks for, as of terms

    def examples(self, task: Task) -> Task:
        """Returns the task with the examples that steps see (rule 1).

        Raises: InputError if there are none.
        """
        return task

    def counts(self, values: StepValues) -> Tensor | None:
        """Returns which examples of a step count, (N,) of bool; None: all (rule 2)."""
        return None

    @property
    def by_values(self) -> bool:
        """Whether it looks at the values of each step."""
        return type(self).counts is not Filter.counts

    def spec(self) -> dict[str, Any]:
        """Returns the fields, with every default."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
