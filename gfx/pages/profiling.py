"""Measures where the time of a compressed program goes, for its page."""

from torch import fx

from gfx.errors import TimingError
from gfx.pages.measured import Latency

__all__ = ["profiled"]


def profiled(module: fx.GraphModule) -> Latency:
    """Measures a module node by node on this machine.

    Raises: TimingError if that cannot be done.
    """
    raise TimingError("this gfx has no profile by node yet")
