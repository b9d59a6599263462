"""Defines what `fit:` says: one training loop, its terms, its lengths and how it steps."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from gfx.errors import MOST, RecipeError, check_range, did_you_mean
from gfx.io.plain_data import plain, shown
from gfx.train.filters import Filter, read_filter
from gfx.train.sampling import Sampler, read_sampler
from gfx.train.systems.player_fields import (
    GIVEN,
    INHERITED,
    Critic,
    Guide,
    Partner,
    coerced,
)
from gfx.train.systems.run_length import RunLength
from gfx.train.terms import Term, read_terms

__all__ = ["GIVEN", "Critic", "Fit", "Guide", "Partner", "read_fit"]

EPOCHS = RunLength(20)  # where nothing is said


@dataclass(frozen=True)
class Fit:
    """One training loop of a stage.

    The defaults are those of GAN Compression's code: Adam at 2e-4 with betas of 0.5 and 0.999.
    """

    losses: tuple[Term, ...] = ()
    length: RunLength = EPOCHS
    teacher: tuple[Guide, ...] = ()  # none: the student learns from data alone
    discriminator: Critic = INHERITED
    players: tuple[Partner, ...] = ()  # further generators, which learn in the same step
    taps: Any = None  # fields of the pass distill_taps, on student and teachers
    batch: int = 4  # examples a step, on each device
    lr: float = 2e-4  # of the generator
    lr_discriminator: float | None = None  # None: that of the generator
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0
    # together: both players are judged by the same discriminator, which steps first;
    # discriminator_first: it steps before the generator is judged
    order: Literal["together", "discriminator_first"] = "together"
    ema: float = 0.0  # of the generator's weights, 0 ≤ ema < 1; 0: none
    clip: float | None = None  # norm of the gradients of each player
    accumulate: int = 1  # batches whose gradients make one step
    precision: Literal["float32", "bf16"] = "float32"
    every: tuple[tuple[str, int], ...] = ()  # player: it steps at each n-th step
    cache: bool = True  # teachers' values of examples that come again
    evaluate: int | None = None  # steps between evaluations; None: at the end
    # which subnets of a supernet a step trains; None, in recipes also `none`: the net as a whole
    sample: Sampler | None = None
    # which examples a step sees, and which count; None, in recipes also `all`: all; a name: of a
    # filter that is not here
    data: Filter | str | None = None

    def __post_init__(self) -> None:
        check_range("batch", self.batch, at_least=1, at_most=MOST)
        check_range("lr", self.lr, above=0, below=float("inf"))
        if self.lr_discriminator is not None:
            check_range("lr_discriminator", self.lr_discriminator, above=0, below=float("inf"))
        for beta in self.betas:
            check_range("betas", beta, at_least=0, below=1)
        check_range("weight_decay", self.weight_decay, at_least=0, below=float("inf"))
        check_range("ema", self.ema, at_least=0, below=1)
        check_range("accumulate", self.accumulate, at_least=1, at_most=MOST)
        if self.clip is not None:
            check_range("clip", self.clip, above=0, below=float("inf"))
        if self.evaluate is not None:
            check_range("evaluate", self.evaluate, at_least=1)
        names = [partner.name for partner in self.players]
        judged = [f"{p.name}.discriminator" for p in self.players if p.leads_back]
        known = ("generator", "discriminator", *names, *judged)
        for player, steps in self.every:
            if player not in known:
                raise RecipeError(
                    f"every: there is no player {player!r}{did_you_mean(player, known)}"
                )
            check_range(f"every: {player}", steps, at_least=1, at_most=MOST)
        if not self.losses:
            raise RecipeError("losses is empty; give at least one, as {l1: 100}")

    def steps_at_each(self, player: str) -> int:
        """Returns at each how many steps a player steps.

        Example:
            >>> fit = Fit(losses=tuple(read_terms({"l1": 1})), every=(("discriminator", 2),))
            >>> fit.steps_at_each("discriminator"), fit.steps_at_each("generator")
            (2, 1)
        """
        return dict(self.every).get(player, 1)

    @property
    def all_losses(self) -> tuple[Term, ...]:
        """The terms of the student, its partners and its teachers that learn."""
        others: tuple[Partner | Guide, ...] = (*self.players, *self.teacher)
        return (*self.losses, *(term for other in others for term in other.losses))

    @property
    def asking(self) -> tuple[Term | Filter, ...]:
        """What asks for values of a step: the terms, and a filter."""
        return (*self.losses, *([self.data] if isinstance(self.data, Filter) else []))

    def of(self, partner: Partner) -> "Fit":
        """Returns the loop as a partner has it: its losses, discriminator, rates and steps.

        Example:
            >>> fit = read_fit({"losses": {"l1": 1}, "players": {
            ...     "back": {"losses": {"gan": "lsgan"}, "lr": 1e-3}}}, "fit")
            >>> fit.of(fit.players[0]).lr
            0.001
        """
        rate = self.lr_discriminator
        every = dict(self.every)
        names = {"generator": partner.name, "discriminator": f"{partner.name}.discriminator"}
        return replace(
            self,
            sample=None,
            data=None,
            losses=partner.losses,
            discriminator=partner.discriminator,
            players=(),
            lr=self.lr if partner.lr is None else partner.lr,
            lr_discriminator=rate if partner.lr_discriminator is None else partner.lr_discriminator,
            every=tuple((key, every[name]) for key, name in names.items() if name in every),
        )

    def spec(self) -> dict[str, Any]:
        """Returns the fit as plain data, with every default, that `read_fit` reads back."""
        found = {f.name: plain(getattr(self, f.name)) for f in fields(self)}
        del found["length"]
        found["losses"] = {term.name: plain(term.spec()) for term in self.losses}
        found[self.length.unit] = str(self.length)
        if self.sample is not None:
            found["sample"] = {self.sample.name: plain(self.sample.spec())}
        if isinstance(self.data, Filter):
            found["data"] = {self.data.name: plain(self.data.spec())}
        found["teacher"] = [guide.spec() for guide in self.teacher]
        found["every"] = dict(self.every)
        found["players"] = {partner.name: partner.spec() for partner in self.players}
        return found


def read_fit(data: Any, where: str, like: Fit | None = None) -> Fit:
    """Reads `fit:`; fields that it does not give are those of `like`, else the defaults.

    Raises: RecipeError that says where, what was found and what was expected.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{where}: a mapping with `losses` is expected, not {shown(data)}")
    values = dict(data)
    known = {f.name for f in fields(Fit)} - {"length"} | {"epochs", "steps", "like"}
    for key in values:
        if key not in known:
            raise RecipeError(f"{where}: unknown field {shown(key)}{did_you_mean(key, known)}")
    if "epochs" in values and "steps" in values:
        raise RecipeError(f"{where}: epochs and steps both say how long; give one of them")
    try:
        made = _fields({key: value for key, value in values.items() if key != "like"})
        return replace(like, **made) if like is not None else Fit(**made)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    """Reads the fields that are given, each by its own form."""
    made: dict[str, Any] = {}
    for key, value in values.items():
        match key:
            case "losses":
                made[key] = tuple(read_terms(value))
            case "epochs" | "steps":
                made["length"] = RunLength.read(value, key)
            case "teacher":
                listed = value if isinstance(value, list | tuple) else [value]
                made[key] = tuple(Guide.read(each) for each in listed if each is not None)
            case "discriminator":
                made[key] = Critic.read(value)
            case "players":
                made[key] = _partners(value)
            case "every":
                made[key] = tuple(coerced(value, dict[str, int], key).items())
            case "taps":
                made[key] = _taps(value)
            case "sample":
                made[key] = None if value in (None, "none") else read_sampler(value)
            case "data":
                made[key] = read_filter(value)
            case _:
                made[key] = coerced(value, _KINDS[key], key)
    return made


def _partners(value: Any) -> tuple[Partner, ...]:
    """Reads further generators, a mapping of names to their fields."""
    if not isinstance(value, Mapping):
        raise RecipeError(
            "players: a mapping of names to fields is expected, as "
            f"{{back: {{losses: {{gan: lsgan, cycle: 10}}}}}}, not {shown(value)}"
        )
    return tuple(Partner.read(str(name), each) for name, each in value.items())


def _taps(value: Any) -> Any:
    """Reads a rule of the pass distill_taps, "auto" for its default, or its fields."""
    if not isinstance(value, str):
        return value
    return {} if value == "auto" else {"rule": value}


_KINDS = {
    "batch": int,
    "lr": float,
    "lr_discriminator": float | None,
    "betas": tuple[float, float],
    "weight_decay": float,
    "order": Literal["together", "discriminator_first"],
    "ema": float,
    "clip": float | None,
    "accumulate": int,
    "precision": Literal["float32", "bf16"],
    "cache": bool,
    "evaluate": int | None,
}
