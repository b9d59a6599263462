"""Defines what `fit:` says: one training loop, its players, terms and lengths."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_type_hints

from gfx.errors import MOST, RecipeError, check_range, did_you_mean
from gfx.io.plain_data import coerce, plain, shown
from gfx.train.systems.run_length import RunLength
from gfx.train.terms import Term, read_terms

__all__ = ["GIVEN", "Critic", "Fit", "Guide", "read_fit"]

GIVEN = "given"  # what the user handed in: the model, or the discriminator

EPOCHS = RunLength(20)  # where nothing is said

Begins = Literal["inherit", "fresh", "given", "frozen", "none"]


@dataclass(frozen=True)
class Guide:
    """A teacher of a student: the net of an earlier stage, or the model as it was given.

    One that is online learns beside the student, from new weights, by `losses` of its own and a
    fresh discriminator; at each step it comes first.

    Example:
        >>> Guide.read("teacher").stage, Guide.read({"stage": "given"}).online
        ('teacher', False)
    """

    stage: str = GIVEN
    online: bool = False
    losses: tuple[Term, ...] = ()  # of one that is online

    def __post_init__(self) -> None:
        if self.online != bool(self.losses):
            said = "learns, and needs losses" if self.online else "does not learn: leave losses out"
            raise RecipeError(f"teacher {self.stage}: with online={self.online} it {said}")

    @staticmethod
    def read(value: Any) -> "Guide":
        """Reads a name of a stage, or a mapping.

        Raises: RecipeError if it is neither.
        """
        found = _mapping({"stage": value} if isinstance(value, str) else value, Guide, "teacher")
        if "losses" in found:
            found["losses"] = tuple(read_terms(found["losses"]))
        return Guide(**found)

    def spec(self) -> dict[str, Any]:
        """Returns the teacher as plain data that `read` reads back."""
        losses = {term.name: plain(term.spec()) for term in self.losses}
        return {"stage": self.stage, "online": self.online} | ({"losses": losses} if losses else {})


@dataclass(frozen=True)
class Critic:
    """The discriminator of a stage: which weights it begins with, and whether it learns.

    inherit: those that the stage of the teacher left, else those that were given; fresh: new ones;
    given: those that were given; frozen: as inherit, and it does not learn; none: there is none.
    """

    begins: Begins = "inherit"
    wrap: str | None = None  # what its layers are wrapped in; not run yet

    @staticmethod
    def read(value: Any) -> "Critic":
        """Reads a word, or a mapping.

        Raises: RecipeError if it is neither.
        """
        given = {"begins": value} if isinstance(value, str) else value
        return Critic(**_mapping(given, Critic, "discriminator"))

    @property
    def learns(self) -> bool:
        """Whether the discriminator is trained."""
        return self.begins not in ("frozen", "none")


@dataclass(frozen=True)
class Fit:
    """One training loop of a stage.

    The defaults are those of GAN Compression's code: Adam at 2e-4 with betas of 0.5 and 0.999.
    """

    losses: tuple[Term, ...] = ()
    length: RunLength = EPOCHS
    teacher: tuple[Guide, ...] = ()  # none: the student learns from data alone
    discriminator: Critic = Critic()
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
    sample: str | None = None  # which subnets of a supernet a step trains; not run yet
    data: str | None = None  # which examples a step sees; not run yet

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
        for player, steps in self.every:
            if player not in ("generator", "discriminator"):
                raise RecipeError(
                    f"every: there is no player {player!r}"
                    f"{did_you_mean(player, ('generator', 'discriminator'))}"
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

    def spec(self) -> dict[str, Any]:
        """Returns the fit as plain data, with every default, that `read_fit` reads back."""
        found = {f.name: plain(getattr(self, f.name)) for f in fields(self)}
        del found["length"]
        found["losses"] = {term.name: plain(term.spec()) for term in self.losses}
        found[self.length.unit] = str(self.length)
        found["teacher"] = [guide.spec() for guide in self.teacher]
        found["every"] = dict(self.every)
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
            case "every":
                made[key] = tuple(_coerced(value, dict[str, int], key).items())
            case "taps":
                made[key] = _taps(value)
            case _:
                made[key] = _coerced(value, _KINDS[key], key)
    return made


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
    "sample": str | None,
    "data": str | None,
}


def _coerced(value: Any, kind: Any, key: str) -> Any:
    try:
        return coerce(value, kind)
    except TypeError as error:
        raise RecipeError(f"{key}: {error}") from error


def _mapping(value: Any, kind: Any, key: str) -> dict[str, Any]:
    """Reads a mapping of the fields of a dataclass; `losses` stay as they are."""
    if not isinstance(value, Mapping):
        raise RecipeError(f"{key}: a word or a mapping is expected, not {shown(value)}")
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise RecipeError(f"{key}: unknown field {shown(name)}{did_you_mean(name, hints)}")
    return {
        name: each if name == "losses" else _coerced(each, hints[name], f"{key}: {name}")
        for name, each in value.items()
    }
