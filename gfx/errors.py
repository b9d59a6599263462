"""Defines the errors gfx raises: one base class, one class for each kind of failure.

Every message says what was wrong, the value, and what to do about it.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "MOST",
    "ArchiveError",
    "BudgetError",
    "EditError",
    "ExportError",
    "GfxError",
    "InputError",
    "PreconditionError",
    "RecipeError",
    "RegistryError",
    "TimingError",
    "TraceError",
    "VerificationError",
    "check_range",
    "did_you_mean",
    "nearest",
    "prefixed",
]


_COMPARED = 300  # characters of names that are compared
MOST = 100_000  # batches, rounds, channels: of whatever a recipe or an option counts


_WORD, _TEXT = 1000, 3900  # characters: the longest name in a message, the longest message
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")


class GfxError(Exception):
    """Any error that gfx raises on purpose; catch this one to catch them all.

    Its text can be read: a name out of a file or a model may have 70,000 characters, or half a
    one, which no screen can show. `args` hold everything.

    Example:
        >>> len(str(GfxError("x" * 70_000 + " is no name; give another")))
        448
    """

    def __str__(self) -> str:
        text = super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")
        text = _LONG_WORD.sub(lambda found: _shortened(found[0], 300, 100), text)
        # what was wrong stands at the beginning, what to do at the end
        return text if len(text) <= _TEXT else _shortened(text, 2400, 1400)


def _shortened(text: str, first: int, last: int) -> str:
    left_out = len(text) - first - last
    return f"{text[:first]}[… {left_out:,} characters …]{text[-last:]}"


class InputError(GfxError):
    """The model or its example inputs cannot be used as given."""


class TraceError(GfxError):
    """The front end cannot turn the model into a graph."""


class ArchiveError(GfxError):
    """A file cannot be read or written, or is not safe to open."""


class RecipeError(GfxError):
    """A recipe does not say anything gfx can do."""


class RegistryError(GfxError):
    """A pass or a recipe is unknown, or two of them share a name."""


class PreconditionError(GfxError):
    """A pass does not apply to this program."""


class EditError(GfxError):
    """A graph edit would leave a program that does not run."""

    node: str = ""  # that cannot be edited, where it is known


class BudgetError(GfxError):
    """A cost budget was not, or cannot be, met."""


class TimingError(GfxError):
    """The machine is too noisy to decide whether a measured latency keeps its limit."""


class ExportError(GfxError):
    """A program cannot be exported, or what was exported computes something else."""


class VerificationError(GfxError):
    """A pass broke its promise: the program is not what it says it is."""


def nearest(name: object, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Lists the known names that a name resembles, the most similar first.

    Args:
        name: the unknown one.
        known: those that there are.
        count: how many names to list at most.
        cutoff: the least similarity, 0 to 1.

    Example:
        >>> nearest("hlaf", ["half", "quarter"])
        ['half']
    """
    # comparing takes the product of two lengths, and nobody mistypes so long a name
    short = [each for each in known if len(each) <= _COMPARED]
    return difflib.get_close_matches(str(name)[:_COMPARED], short, n=count, cutoff=cutoff)


def did_you_mean(
    name: object,
    known: Iterable[str],
    otherwise: str | None = None,
    cutoff: float = 0.6,
    quoted: bool = True,
) -> str:
    """Writes the end of an "unknown ..." message: the nearest known name, else `otherwise`.

    Args:
        name: the unknown one.
        known: those that there are.
        otherwise: what to say where none is near; "" adds nothing, None lists all known names.
        cutoff: the least similarity of a near name, 0 to 1.
        quoted: whether the nearest name is written in quotes.

    Example:
        >>> did_you_mean("hlaf", ["half", "quarter"])
        "; did you mean 'half'?"
        >>> did_you_mean("zzz", ["half", "quarter"])
        '; known: half, quarter'
    """
    names = sorted(known)
    near = nearest(name, names, cutoff=cutoff)
    if near:
        return f"; did you mean {near[0]!r}?" if quoted else f"; did you mean {near[0]}?"
    if otherwise is None:
        otherwise = f"known: {', '.join(names)}" if names else "none is known"
    return f"; {otherwise}" if otherwise else ""


def check_range(
    name: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Checks that a parameter lies within its range; NaN never does.

    Raises: RecipeError with the name, the value and the range.

    Example:
        >>> check_range("ratio", 0.5, at_least=0, below=1)
        >>> check_range("ratio", 1.5, at_least=0, below=1)
        Traceback (most recent call last):
            ...
        gfx.errors.RecipeError: ratio=1.5 must be at least 0 and below 1
    """
    low = value >= at_least if at_least is not None else above is None or value > above
    high = value <= at_most if at_most is not None else below is None or value < below
    if low and high and value == value:
        return
    if at_least is not None and at_most is not None:
        raise RecipeError(f"{name}={value} must be between {at_least} and {at_most}")
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    said = [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
    text = " and ".join(said).replace("below inf", "finite")
    raise RecipeError(f"{name}={value} must be {text}")


def require_seed(seed: Any, kind: type[GfxError] = RecipeError) -> None:
    """Checks that a seed is one that torch takes.

    Raises: an error of the kind.

    Example:
        >>> require_seed(-1)
        Traceback (most recent call last):
            ...
        gfx.errors.RecipeError: seed is -1; it is an integer between 0 and 2**63 - 1
    """
    if not (type(seed) is int and 0 <= seed < 2**63):
        raise kind(f"seed is {seed!r}; it is an integer between 0 and 2**63 - 1")


@contextmanager
def prefixed(name: str) -> Iterator[None]:
    """Begins the text of every GfxError raised inside with `name: `, unless it begins so already.

    The error keeps its class and its attributes.

    Example:
        >>> with prefixed("decompose"):
        ...     raise RecipeError("rank=0 must be at least 1")
        Traceback (most recent call last):
            ...
        gfx.errors.RecipeError: decompose: rank=0 must be at least 1
    """
    try:
        yield
    except GfxError as error:
        if str(error).startswith(f"{name}: "):
            raise
        text = f"{name}: {error}"
        # not its constructor: a plugin's class may ask for other arguments
        named = type(error).__new__(type(error), text)
        named.__dict__.update(error.__dict__)
        named.args = (text,)
        raise named from error
