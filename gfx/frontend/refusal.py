"""Reports why a front end cannot take a model, and which of its modules is the cause."""

from collections.abc import Iterator
from types import TracebackType

from torch import nn

__all__ = ["Refusal", "blamed_module", "first_line"]

_LONGEST = 500  # characters of another's message


class Refusal(Exception):
    """Reports that a front end cannot take the model; it never leaves gfx.frontend.

    `path` is the smallest module that caused it, "" for the model's own forward.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def blamed_module(error: BaseException, model: nn.Module) -> str:
    """Finds the innermost submodule in whose forward an exception was raised, "" if none."""
    # by attribute dictionary: torch.export runs stand-ins that share it with the real module
    paths = {id(vars(module)): path for path, module in model.named_modules()}
    found = ""
    for trace in _traces(error):
        while trace is not None:
            owner = trace.tb_frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                found = paths.get(id(vars(owner)), "") or found
            trace = trace.tb_next
        if found:
            return found
    return ""


def first_line(error: BaseException) -> str:
    r"""Shortens an exception to one line.

    Example:
        >>> first_line(ValueError("no such size\nmore"))
        'ValueError: no such size'
    """
    text = str(error).strip()
    line = text.splitlines()[0][:_LONGEST] if text else ""
    return f"{type(error).__name__}: {line}" if text else type(error).__name__


def _traces(error: BaseException) -> Iterator[TracebackType | None]:
    """Iterates over the tracebacks of an exception, that of its first cause first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for member in reversed(chain):
        yield member.__traceback__
