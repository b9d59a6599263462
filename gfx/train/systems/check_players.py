"""Checks that the players of a stage have what their terms ask for, before anything is built."""

from collections.abc import Mapping, Sequence

from gfx.errors import RecipeError, did_you_mean
from gfx.train.filters import Filter
from gfx.train.systems.fit_fields import Fit
from gfx.train.systems.player_fields import GIVEN, STUDENT
from gfx.train.terms import Term
from gfx.train.terms.term import NEEDS

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
    backs = [partner.name for partner in fit.players if partner.leads_back]
    _check_added(f"stage {stage}", fit)
    _check_terms(f"stage {stage}", fit, backs)
    if backs and not _goes_back(fit.losses):
        raise RecipeError(
            f"stage {stage}: players: no term of the student goes through {' or '.join(backs)}; "
            "give `losses: {cycle: 10}`, or leave players out"
        )
    for partner in fit.players:
        where = f"stage {stage}: players: {partner.name}"
        if partner.name == stage:
            raise RecipeError(f"{where}: is the name of the stage too; give the player another")
        if not partner.leads_back:
            continue
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


def _check_added(where: str, fit: Fit) -> None:
    """Checks the side players, and that what terms need of them is there."""
    adding: dict[str, str] = {}
    sides = [partner for partner in fit.players if not partner.leads_back]
    for side in sides:
        said = f"{where}: players: {side.name}"
        if fit.sample is not None:
            raise RecipeError(
                f"{said}: the kind {side.kind.name} does not learn beside a supernet in this "
                "version of gfx; leave sample out, or the player"
            )
        for name in side.kind.adds:
            if adding.setdefault(name, side.name) != side.name:
                raise RecipeError(
                    f"{said}: adds {name!r}, and so does {adding[name]}; leave one out"
                )
        for term in side.losses:
            if unmet := sorted(term.needs & NEEDS - {"target"}):
                raise RecipeError(
                    f"{said}: the term {term.name} needs {unmet[0]!r}, which side players do not "
                    "see in this version of gfx; leave it out"
                )
        if not any(term.needs.intersection(side.kind.adds) for term in side.losses):
            raise RecipeError(
                f"{said}: none of its losses needs {' or '.join(side.kind.adds)}, which it adds; "
                "give a term that does"
            )
    for asking in fit.asking:
        _check_named(where, asking, adding)
    for partner in fit.players:
        for term in partner.losses:
            known = {} if partner.leads_back else adding
            _check_named(f"{where}: players: {partner.name}", term, known)
    for guide in fit.teacher:
        for term in guide.losses:
            _check_named(f"{where}: teacher {guide.stage}", term, {})


def _check_named(where: str, asking: Term | Filter, adding: Mapping[str, str]) -> None:
    """Checks that what is needed is what steps have, or what a player adds."""
    for need in sorted(asking.needs - NEEDS - adding.keys()):
        what = "the term" if isinstance(asking, Term) else "data:"
        added = ", ".join(adding) or "nothing"
        raise RecipeError(
            f"{where}: {what} {asking.name} needs {need!r}, which no player adds for it (players "
            f"add {added}){did_you_mean(need, (*adding, *NEEDS))}"
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
