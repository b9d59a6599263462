"""Keeps torch from writing its own tracebacks to stderr for failures that gfx reports itself."""

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["quiet_torch"]

_LOUD = (
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.symbolic_shapes",
    "torch._export",
    "torch.export",
    "torch._dynamo",
)


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Silences torch's loggers inside a with block; what is raised is raised as ever.

    Example:
        >>> with quiet_torch():
        ...     logging.getLogger("torch.export").disabled
        True
    """
    loggers = [logging.getLogger(name) for name in _LOUD]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
