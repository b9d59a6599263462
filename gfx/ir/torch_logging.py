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
_FAMILIES = ("torch.onnx", "onnxscript", "onnx_ir")  # with all loggers below


@contextlib.contextmanager
def quiet_torch(onnx: bool = False) -> Iterator[None]:
    """Silences torch's loggers inside a with block; errors are raised as before.

    `onnx` silences the exporters to ONNX too, which takes a millisecond.

    Example:
        >>> with quiet_torch():
        ...     logging.getLogger("torch.export").disabled
        True
    """
    loggers = [logging.getLogger(name) for name in _LOUD]
    before = [logger.disabled for logger in loggers]
    families = [logging.getLogger(name) for name in _FAMILIES if onnx]
    levels = [logger.level for logger in families]
    for logger in loggers:
        logger.disabled = True
    for logger in families:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(families, levels, strict=True):
            logger.setLevel(level)
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
