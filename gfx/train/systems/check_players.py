"""Checks that the players of a stage have what their terms ask for, before anything is built."""

from collections.abc import Sequence

from gfx.errors import RecipeError, did_you_mean
from gfx.train.filters import Filter
from gfx.train.systems.fit_fields import Fit
from gfx.train.systems.player_fields import GIVEN, STUDENT
from gfx.train.terms import Term

__all__ = ["check_players"]


def check_players(stage: str, fit: Fit, known: Sequence[str]) -> None:
    """Checks the terms, teachers and partners of a stage; `known` are the stages before it.

    Raises: RecipeError naming the stage, what is missing, and what to give.
    """
    for guide in fit.teacher:
        if guide.stage != GIVEN and guide.stage not in known:
            before = ", ".join(known) or "none"
            raise RecipeError(
                f"stage {stage}: its teacher is {guide.stage!r}, no stage before it "
                f"(before it: {before}); give one of these, or {GIVEN!r}"
            )
        for term in guide.losses:
            if "way back" in term.needs:
                raise RecipeError(
                    f"stage {stage}: the term {term.name} goes through a generator that leads "
                    f"back, and the teacher {guide.stage} that learns online has none; train it "
                    "in a stage of its own, with `players:`"
                )
    of = fit.discriminator.of
    if of is not None and of not in known:
        before = ", ".join(known) or "none"
        raise RecipeError(
            f"stage {stage}: discriminator: of: {of!r} is no stage before it (before it: {before})"
        )
    names = [partner.name for partner in fit.players]
    if names and isinstance(fit.data, Filter) and fit.data.by_values:
        raise RecipeError(
            f"stage {stage}: data: {fit.data.name}: chooses by what the student makes, and the "
            f"players {', '.join(names)} learn from all; leave data out, or players"
        )
    conditioned = [p.discriminator.conditioned for p in fit.players]
    if any(conditioned) or (fit.discriminator.conditioned and fit.sample is None):
        raise RecipeError(
            f"stage {stage}: discriminator: conditioned: it is told the widths of the subnets that "
            "a student samples; give the fit `sample: uniform`, or leave conditioned out"
        )
    _check_terms(f"stage {stage}", fit, names)
    if names and not _goes_back(fit.losses):
        raise RecipeError(
            f"stage {stage}: players: no term of the student goes through {' or '.join(names)}; "
            "give `losses: {cycle: 10}`, or leave players out"
        )
    for partner in fit.players:
        where = f"stage {stage}: players: {partner.name}"
        if partner.name == stage:
            raise RecipeError(f"{where}: is the name of the stage too; give the player another")
        if partner.like not in (STUDENT, GIVEN, *known):
            choices = (STUDENT, GIVEN, *known)
            raise RecipeError(
                f"{where}: like: there is no net {partner.like!r}"
                f"{did_you_mean(partner.like, choices)}"
            )
        _check_terms(where, fit.of(partner), [STUDENT])
        for term in partner.losses:
            if unmet := term.needs & {"teacher", "taps", "target or teacher"}:
                raise RecipeError(
                    f"{where}: the term {term.name} compares with {sorted(unmet)[0]}, and teachers "
                    "are the student's alone; leave it out"
                )


def _check_terms(where: str, fit: Fit, back: Sequence[str]) -> None:
    """Checks the terms of one generator, which others lead back from."""
    for asking in fit.asking:
        what = "the term" if isinstance(asking, Term) else "data:"
        said = f"{where}: {what} {asking.name}"
        if "discriminator" in asking.needs and fit.discriminator.begins == "none":
            raise RecipeError(
                f"{said} goes through the discriminator, and discriminator is none; give inherit, "
                f"fresh, given or frozen, or leave {asking.name} out"
            )
        if "teacher" in asking.needs and not fit.teacher:
            raise RecipeError(
                f"{said} compares with a teacher, and there is none; give `teacher:` a stage, or "
                f"{GIVEN!r}"
            )
    for term in fit.losses:
        if "way back" in term.needs:
            _check_way(where, term, back)


def _check_way(where: str, term: Term, back: Sequence[str]) -> None:
    """Checks that a term finds the generator that leads back."""
    if not back:
        raise RecipeError(
            f"{where}: " + f"the term {term.name} goes through a generator that leads back, and "
            "there is none; give the fit "
            "`players: {back: {losses: {gan: lsgan, cycle: 10}}}`"
        )
    by = getattr(term, "by", None)
    if by is None and len(back) > 1:
        raise RecipeError(
            f"{where}: "
            + f"the term {term.name} finds {', '.join(back)} that lead back; say which, "
            f"as {{{term.name}: {{weight: {term.weight:g}, by: {back[0]}}}}}"
        )
    if by is not None and by not in back:
        raise RecipeError(
            f"{where}: " + f"the term {term.name}: by: there is no generator {by!r} that leads back"
            f"{did_you_mean(by, back)}"
        )


def _goes_back(terms: Sequence[Term]) -> bool:
    return any("way back" in term.needs for term in terms)
