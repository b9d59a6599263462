"""Guards each kind of door: what comes in is parsed, and what goes out is written, by others.

A parser of others raises what it likes on what it does not expect. Each guard stands around the
call of such a parser alone and turns whatever it raises into one sentence of gfx; what gfx raises
itself passes through, and so does an interrupt.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, readlink, strerror
from os.path import islink

from gfx.errors import ArchiveError, GfxError, InputError, RecipeError, prefixed

__all__ = [
    "calling",
    "printable",
    "reading_file",
    "reading_recipe",
    "reason",
    "running",
    "unreachable",
    "writing",
]

Name = str | PathLike[str]

_LONGEST = 300  # characters of another's message


@contextmanager
def reading_recipe(origin: str) -> Iterator[None]:
    """Guards the parser of recipe text.

    Raises: RecipeError.

    Example:
        >>> with reading_recipe("a.yaml"):
        ...     int("x")
        Traceback (most recent call last):
        gfx.errors.RecipeError: a.yaml: cannot be read as a recipe: ValueError: invalid literal ...
    """
    with _translated(
        lambda error: RecipeError(
            f"{printable(origin)}: cannot be read as a recipe: {reason(error)}"
        )
    ):
        yield


@contextmanager
def reading_file(file: Name, what_to_do: str = "copy or download it again") -> Iterator[None]:
    """Guards whatever reads a file of a model: zip, pickle, safetensors, torch.

    Raises: ArchiveError.

    Example:
        >>> with reading_file("a.gfx"):
        ...     bytes(1)[2]
        Traceback (most recent call last):
        gfx.errors.ArchiveError: a.gfx is truncated or damaged (IndexError: index out of range); ...
    """

    def refusal(error: Exception) -> GfxError:
        if isinstance(error, MemoryError):
            return ArchiveError(
                f"{printable(file)} asks for more memory than there is; it is damaged, or too "
                "large for this machine"
            )
        return ArchiveError(
            f"{printable(file)} is truncated or damaged ({reason(error)}); {what_to_do}"
        )

    with _translated(refusal):
        yield


@contextmanager
def running(what: str) -> Iterator[None]:
    """Guards the user's own code where it runs: hooks, autograd functions.

    Raises: InputError.

    Example:
        >>> with running("the backward pass of the model"):
        ...     raise ValueError("hook 'hook' has changed the size of value")
        Traceback (most recent call last):
        gfx.errors.InputError: the backward pass of the model fails: ValueError: hook 'hook' has ...
    """
    with _translated(lambda error: InputError(f"{what} fails: {reason(error)}")):
        yield


@contextmanager
def calling(whose: str) -> Iterator[None]:
    """Guards code of a plugin, and begins whatever it raises with whose it is.

    Raises: InputError, or the error of gfx's own that the code raised.

    Example:
        >>> with calling("data: bright"):
        ...     raise ValueError("no image")
        Traceback (most recent call last):
        gfx.errors.InputError: data: bright: ValueError: no image
    """
    with prefixed(whose), _translated(lambda error: InputError(f"{whose}: {reason(error)}")):
        yield


@contextmanager
def writing(path: Name) -> Iterator[None]:
    """Guards whatever writes a file, and the calls of the system that look where it goes.

    Raises: ArchiveError.

    Example:
        >>> with writing("a.gfx"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: cannot write a.gfx: the disk is full; nothing was written
    """
    with _translated(
        lambda error: ArchiveError(
            f"cannot write {printable(path)}: {_failure(error)}; nothing was written"
        )
    ):
        yield


def reason(error: BaseException) -> str:
    """Writes another's error in one short line: its kind and the first sentence.

    Example:
        >>> reason(KeyError("a"))
        "KeyError: 'a'"
    """
    lines = str(error).strip().splitlines() or ["no reason"]
    text = printable(lines[0] if len(lines[0]) > 20 else " ".join(lines))
    return f"{type(error).__name__}: {text[:_LONGEST]}{'…' if len(text) > _LONGEST else ''}"


def printable(text: object) -> str:
    r"""Returns text that any screen can show: escapes what no encoding has, and controls.

    Example:
        >>> printable("a\0b\ud800")
        'a\\x00b\\ud800'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def unreachable(path: Name, error: OSError | ValueError) -> str:
    """Writes why a path leads nowhere: "does not exist" only of what does not exist.

    Example:
        >>> unreachable("model.pt", FileNotFoundError(errno.ENOENT, ""))
        'does not exist; check the path'
    """
    if isinstance(error, ValueError):
        return f"is no path ({printable(error)})"
    if error.errno == errno.ENOENT and islink(path):
        return f"is a link to {printable(readlink(path))}, which does not exist"
    if error.errno == errno.ENOENT:
        return "does not exist; check the path"
    reasons = {
        errno.EACCES: "cannot be read: permission denied",
        errno.EPERM: "cannot be read: permission denied",
        errno.ELOOP: "is a link that leads back to itself",
        errno.ENAMETOOLONG: "does not exist: its name is longer than the system allows",
        errno.ENOTDIR: "does not exist: a part of the path is a file, not a folder",
    }
    said = error.strerror or str(error)
    return reasons.get(error.errno or 0, f"cannot be read: {said.lower()}")


@contextmanager
def _translated(refusal: Callable[[Exception], GfxError]) -> Iterator[None]:
    try:
        yield
    except GfxError:
        raise
    except Exception as error:  # whatever others raise; KeyboardInterrupt is none
        raise refusal(error) from error


def _failure(error: Exception) -> str:
    """Says why something could not be written."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if not isinstance(error, OSError):
        return reason(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    if error.errno == errno.ELOOP:
        return "its links lead in a circle; name a plain file"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long; give a shorter one"
    return (strerror(error.errno) if error.errno else str(error)).lower()
