"""Defines who plays in a stage beside its student: teachers, discriminators, partners."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from gfx.errors import MOST, RecipeError, check_range, did_you_mean
from gfx.io.plain_data import coerce, plain, shown
from gfx.train.players import Back, PlayerKind, read_player
from gfx.train.terms import Term, read_terms

__all__ = ["FRESH", "GIVEN", "INHERITED", "STUDENT", "Critic", "Guide", "Partner", "coerced"]

GIVEN = "given"  # what the user handed in: the model, or the discriminator
STUDENT = "student"  # the generator that a stage trains, with its passes applied

# by other players, and by files of a stage
_TAKEN = ("generator", "discriminator", STUDENT, "begin", "critic")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")

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
    of: str | None = (
        None  # whose it inherits: a stage; None: the teacher's, else the last before it
    )
    wrap: str | None = None  # what its layers are wrapped in; not run yet
    pool: int = 0  # fakes of earlier steps that it learns from too; 0: none
    conditioned: bool = False  # whether it is told the widths of the subnet that it judges

    def __post_init__(self) -> None:
        if self.of is not None and self.begins not in ("inherit", "frozen"):
            raise RecipeError(
                f"discriminator: {self.begins}: inherits from no stage; leave of: {self.of} out"
            )
        if self.conditioned and not self.learns:
            raise RecipeError(
                f"discriminator: {self.begins}: does not learn, and one that is conditioned learns "
                "what widths mean; leave conditioned out"
            )
        if self.conditioned and self.pool:
            raise RecipeError(
                "discriminator: conditioned: fakes of earlier steps are of other widths; leave "
                "pool out, or conditioned"
            )
        check_range("discriminator: pool", self.pool, at_least=0, at_most=MOST)
        if self.pool and not self.learns:
            raise RecipeError(
                f"discriminator: {self.begins}: does not learn, and a pool is what one learns "
                "from; leave pool out"
            )

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


INHERITED, FRESH, NO_CRITIC = Critic(), Critic("fresh"), Critic("none")
BACK = Back()


@dataclass(frozen=True)
class Partner:
    """A further player of a stage, which learns beside the student by losses of its own.

    One of the kind `back` is a generator from the second set of images back to the first; its
    discriminator judges images of the first set. Kinds of plugins are side players: their net is
    their own, and they have no discriminator.

    inherit: what the partner of this name was at the end of an earlier stage, else what was given
    (`players=`), else new weights; fresh: new weights; given: those of the net that it is like.

    Source: Zhu et al. 2017, arXiv:1703.10593 (CycleGAN), figure 3.

    Example:
        >>> back = Partner.read("back", {"losses": {"gan": "lsgan", "cycle": 10}})
        >>> back.begins, back.like, back.discriminator.begins
        ('fresh', 'student', 'fresh')
    """

    name: str
    losses: tuple[Term, ...] = ()
    like: str = STUDENT  # whose layers it has: the student's, or the net of a stage, or `given`
    begins: Literal["inherit", "fresh", "given"] = "fresh"
    std: float | None = None  # of new weights; None: as layers draw them when they are made
    discriminator: Critic = FRESH
    lr: float | None = None  # None: that of the student
    lr_discriminator: float | None = None  # None: that of the student's
    kind: PlayerKind = BACK

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _TAKEN:
            raise RecipeError(
                f"players: a generator is called {shown(self.name)}; give another name, of "
                "letters, digits, - and _"
            )
        where = f"players: {self.name}"
        for key in ("std", "lr", "lr_discriminator"):
            if (value := getattr(self, key)) is not None:
                check_range(f"{where}: {key}", value, above=0, below=float("inf"))
        if not self.losses:
            raise RecipeError(
                f"{where}: losses is empty; give what it minimises, as {{gan: lsgan, cycle: 10}}"
            )
        if not self.leads_back:
            self._check_side(where)
        if self.discriminator.begins in ("given", "frozen"):
            raise RecipeError(
                f"{where}: discriminator: {self.discriminator.begins}: the one that is given "
                "judges the student; give inherit, fresh or none"
            )

    @property
    def leads_back(self) -> bool:
        """Whether it is a generator that leads back, and no side player."""
        return isinstance(self.kind, Back)

    def _check_side(self, where: str) -> None:
        """Refuses what a side player does not have."""
        said = f"{where}: the kind {self.kind.name}"
        if self.discriminator.begins != "none" or self.lr_discriminator is not None:
            raise RecipeError(
                f"{said} has no discriminator in this version of gfx; leave discriminator and "
                "lr_discriminator out"
            )
        for key, default in (("like", STUDENT), ("std", None)):
            if getattr(self, key) != default:
                raise RecipeError(f"{said} builds a net of its own; leave {key} out")
        if self.begins == "given":
            raise RecipeError(
                f"{said} is like no net that was given; give begins: fresh or inherit"
            )
        if unmet := sorted(self.kind.needs - {"target"}):
            raise RecipeError(
                f"{said} needs {unmet[0]!r}, which side players do not see in this version of gfx; "
                "they may need 'target'"
            )

    @staticmethod
    def read(name: str, value: Any) -> "Partner":
        """Reads the fields of a partner.

        Raises: RecipeError naming the field that does not fit.
        """
        where = f"players: {name}"
        given = dict(value) if isinstance(value, Mapping) else value
        apart: dict[str, Any] = {}
        if isinstance(given, dict):
            if "losses" in given:
                apart["losses"] = tuple(read_terms(given.pop("losses")))
            if "kind" in given:
                try:
                    apart["kind"] = read_player(given.pop("kind"))
                except RecipeError as error:
                    raise RecipeError(f"{where}: {error}") from error
                if not isinstance(apart["kind"], Back):
                    apart["discriminator"] = NO_CRITIC
            if "discriminator" in given:
                apart["discriminator"] = Critic.read(given.pop("discriminator"))
            if "name" in given:
                raise RecipeError(f"{where}: unknown field 'name'; its key is its name")
        return Partner(name, **_mapping(given, Partner, where), **apart)

    def spec(self) -> dict[str, Any]:
        """Returns the partner as plain data that `read` reads back."""
        apart = ("name", "kind")
        found = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name not in apart}
        if self.kind != BACK:
            found["kind"] = {self.kind.name: plain(self.kind.spec())}
        return found | {"losses": {term.name: plain(term.spec()) for term in self.losses}}


def coerced(value: Any, kind: Any, key: str) -> Any:
    """Reads a value of a kind.

    Raises: RecipeError naming the field.
    """
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
        name: each if name == "losses" else coerced(each, hints[name], f"{key}: {name}")
        for name, each in value.items()
    }
