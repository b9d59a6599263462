"""The former name of `gfx.train`: `from gfx.tune import losses` works, with a warning."""

import warnings

from gfx.train import losses

__all__ = ["losses"]

warnings.warn(
    "gfx.tune is called gfx.train now; the old name goes with the next version",
    DeprecationWarning,
    stacklevel=2,
)
