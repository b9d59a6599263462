"""Reads which widths the groups of a supernet may have, and where a program keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gfx.compression.selection.bounds import Bounds
from gfx.compression.selection.candidate_groups import candidates
from gfx.coupling import Group, Groups
from gfx.coupling.channel_names import modules_of
from gfx.errors import MOST, PreconditionError, RecipeError, check_range, did_you_mean
from gfx.io.plain_data import shown
from gfx.ir.globs import matches

__all__ = ["SUPERNET", "Ties", "Values", "WidthChoices", "require_choice"]

Values = tuple[int | float, ...]
Ties = tuple[tuple[str, ...], ...]  # names of groups whose widths are chosen together
SUPERNET = "gfx_supernet"  # in the meta of a module: the widths that each group may have


@dataclass(frozen=True)
class WidthChoices:
    """Says which widths may be chosen, in channels of the layers.

    1. By default every multiple of `step` from the share `at_least` of the group on, and the group
       as it is. A group that has fewer than two of them halves the step until it has, down to 1.
    2. `values` gives them instead, by glob over modules: channels, or shares of the group if they
       are at most 1 and written as fractions. What is no multiple of the channels that go together
       is rounded up. The group as it is always belongs to them.
    3. A group keeps at least `min_channels`, or all: 4 channels may be an image.
    4. `together` lists globs of groups that are chosen together: the k-th width of one is the k-th
       of all, which have as many.

    Example:
        >>> WidthChoices.read({"step": 16}).step, WidthChoices.read([0.5, 1.0]).values
        (16, {'*': (0.5, 1.0)})
    """

    step: int = 8  # channels
    at_least: float = 0.25  # share of a group, 0 ≤ at_least ≤ 1
    min_channels: int = 4
    values: Mapping[str, Values] = field(default_factory=dict)  # glob: widths
    together: tuple[tuple[str, ...], ...] = ()  # globs over modules

    def __post_init__(self) -> None:
        check_range("widths: step", self.step, at_least=1, at_most=MOST)
        check_range("widths: at_least", self.at_least, at_least=0, at_most=1)
        check_range("widths: min_channels", self.min_channels, at_least=1, at_most=MOST)
        for glob, values in self.values.items():
            for value in values:
                check_range(f"widths[{glob}]", value, above=0, at_most=MOST)

    @staticmethod
    def read(given: Any) -> "WidthChoices":
        """Reads fields, a list of widths for all groups, or a list for each glob.

        Raises: RecipeError if it is none of these.
        """
        known = ("step", "at_least", "min_channels", "values", "together")
        if given is None:
            return WidthChoices()
        if isinstance(given, WidthChoices):
            return given
        if isinstance(given, Sequence) and not isinstance(given, str):
            return WidthChoices(values={"*": _values("*", given)})
        if not isinstance(given, Mapping):
            raise RecipeError(
                f"widths: a list of widths, or a mapping such as {{step: 8}}, is expected, not "
                f"{shown(given)}"
            )
        found = dict(given)
        if found and not {*found} & {*known}:
            if not all(isinstance(v, Sequence) and not isinstance(v, str) for v in found.values()):
                name = next(iter(found))
                raise RecipeError(f"widths: unknown field {shown(name)}{did_you_mean(name, known)}")
            found = {"values": found}
        for name in found:
            if name not in known:
                raise RecipeError(f"widths: unknown field {shown(name)}{did_you_mean(name, known)}")
        if "values" in found:
            found["values"] = {glob: _values(glob, v) for glob, v in found["values"].items()}
        if "together" in found:
            found["together"] = _globs(found["together"])
        return WidthChoices(**found)

    def tied(self, groups: Groups, widths: Mapping[str, Sequence[int]]) -> Ties:
        """Lists the names of groups that are chosen together (rule 4); `widths` are their choices.

        Raises: RecipeError if globs name no group with a choice, or groups of unequal choices.
        """
        found: list[tuple[str, ...]] = []
        for globs in self.together:
            named = [
                group.name
                for group in groups.free
                if group.name in widths and matches(modules_of(group), globs)
            ]
            text = ", ".join(globs)
            if not named:
                raise RecipeError(f"widths: together: no group with a choice is named by {text}")
            counts = {name: len(widths[name]) for name in named}
            if len({*counts.values()}) > 1:
                most, least = (
                    max(counts, key=counts.__getitem__),
                    min(counts, key=counts.__getitem__),
                )
                raise RecipeError(
                    f"widths: together: {text}: {most} has {counts[most]} widths and {least} "
                    f"{counts[least]}; give them as many, by `values`"
                )
            again = {name for names in found for name in names} & {*named}
            if again:
                raise RecipeError(
                    f"widths: together: {min(again)} is named twice; let one list name it"
                )
            found.append(tuple(named))
        return tuple(found)

    def of(self, groups: Groups) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """Lists the widths of every group that has a choice, and why the others have none.

        Raises: RecipeError if a glob names no module.
        """
        named = {"widths": tuple(self.values), "targets": tuple(self.values) or ("*",)}
        bounds = Bounds(min_channels=self.min_channels)
        among, _, skipped = candidates(groups, named, bounds=bounds)
        found: dict[str, tuple[int, ...]] = {}
        for group in among:
            widths = self._widths(group)
            if len(widths) > 1:
                found[group.name] = widths
            else:
                skipped.append((group.name, f"its only width is {group.width}"))
        return found, dict(skipped)

    def _widths(self, group: Group) -> tuple[int, ...]:
        """Lists the widths of one group, ascending."""
        each, full = group.takes[0], group.width
        least = Bounds(min_channels=self.min_channels).of([group]).least[0] * each
        given = next((v for g, v in self.values.items() if matches(modules_of(group), (g,))), None)
        if given is not None:
            asked = [v if isinstance(v, int) else v * full for v in given]
            return _multiples(asked, each, int(least), full)
        from_ = max(int(least), int(np.ceil(self.at_least * full - 1e-9)))
        step = self.step
        while True:
            found = _multiples([*range(step, full, step)], each, from_, full, strictly=True)
            if len(found) > 1 or step == 1:
                return found
            step //= 2


def require_choice(choices: Mapping[str, object], kept_whole: Mapping[str, str]) -> None:
    """Refuses a net without a choice of widths.

    Raises: PreconditionError with the first reason, if there are no choices.
    """
    if not choices:
        (name, why), *more = kept_whole.items() or [("the model", "it has no channels")]
        raise PreconditionError(
            f"no group has a choice of widths: {name}: {why}"
            + (f", and {len(more)} more; gfx.channels lists them" if more else "")
        )


def _globs(given: Any) -> tuple[tuple[str, ...], ...]:
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    found = [(each,) if isinstance(each, str) else each for each in given] if listed else [()]
    if not all(
        isinstance(each, Sequence) and each and all(isinstance(glob, str) for glob in each)
        for each in found
    ):
        raise RecipeError(
            "widths: together: lists of globs are expected, such as [[blocks.0.*, blocks.1.*]], "
            f"not {shown(given)}"
        )
    return tuple(tuple(each) for each in found)


def _values(glob: str, given: Any) -> Values:
    good = isinstance(given, Sequence) and not isinstance(given, str)
    if not good or not all(type(v) in (int, float) for v in given) or not given:
        raise RecipeError(
            f"widths[{glob}]: a list of channels or shares is expected, such as [16, 32] or "
            f"[0.5, 1.0], not {shown(given)}"
        )
    if any(isinstance(v, float) and v > 1 for v in given):
        raise RecipeError(f"widths[{glob}]: a share is at most 1.0; channels are whole numbers")
    return tuple(given)


def _multiples(
    asked: Sequence[float], each: int, least: int, full: int, *, strictly: bool = False
) -> tuple[int, ...]:
    """Rounds widths up to what goes together, within the bounds; the full width belongs to them."""
    up = [-(-int(np.ceil(a - 1e-9)) // each) * each for a in asked]
    kept = [a for a in up if a >= least] if strictly else [max(a, least) for a in up]
    return tuple(sorted({*(a for a in kept if a <= full), full}))
