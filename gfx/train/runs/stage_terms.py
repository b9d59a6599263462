"""Builds the terms of a stage's objectives, and refuses those that lack what they compare with."""

from collections.abc import Sequence

import torch

from gfx.errors import RecipeError
from gfx.ir.random_state import keep_random_state
from gfx.train.runs.examples_of import examples_said
from gfx.train.systems import SystemStage
from gfx.train.tasks import Batch, Task
from gfx.train.terms import Objective, Term, TermSetting

__all__ = ["StageTerms"]


class StageTerms:
    """Builds terms for the nets of one stage; `first` is its first batch.

    Adapters and other weights of terms are drawn from the seed.
    """

    def __init__(
        self, stage: SystemStage, task: Task, first: Batch, device: torch.device, seed: int
    ) -> None:
        self.stage, self.task, self.first = stage, task, first
        self.device, self.seed = device, seed

    def built(self, terms: Sequence[Term], setting: TermSetting) -> list[tuple[Term, Objective]]:
        """Returns each term with its objective, on the device.

        Raises: RecipeError if the task or the nets do not have what a term needs.
        """
        return [(term, self._built(term, setting)) for term in terms]

    def _built(self, term: Term, setting: TermSetting) -> Objective:
        """Builds a term, if the task and the nets have what it needs."""
        guided = self.stage.fit is not None and self.stage.fit.teacher
        where = f"stage {self.stage.name}: the term {term.name}"
        if "discriminator" in term.needs and self.task.partly_labelled:
            raise RecipeError(
                f"{where} compares with real images, and some examples have none; give the fit "
                "`data: labelled`, or leave it out"
            )
        if "target" in term.needs and self.task.partly_labelled:
            raise RecipeError(
                f"{where} compares with the ground truth, and some examples have none; give the "
                "fit `data: labelled`, or take recon with a teacher, whose images are the targets "
                "of the others"
            )
        if "target" in term.needs and self.task.target(self.first) is None:
            raise RecipeError(
                f"{where} compares with the ground truth, and "
                f"{examples_said(self.stage, self.task)} none; take recon with a teacher, whose "
                "images are the targets then, or leave it out"
            )
        if "target or teacher" in term.needs and not (
            setting.shown or guided or self.task.target(self.first) is not None
        ):
            raise RecipeError(
                f"{where} compares with the ground truth or a teacher, and there is neither; give "
                "pairs, or `teacher: given`"
            )
        if "taps" in term.needs and not setting.seen:
            raise RecipeError(
                f"{where} compares features, and nothing is tapped; give the fit `taps: auto`, or "
                "a rule of the pass distill_taps"
            )
        with keep_random_state(seed=self.seed):
            built: Objective = term.build(setting).to(self.device)
            return built
