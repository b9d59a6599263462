"""The name of `gfx.train` in version 0.1.0, so that `from gfx.tune import losses` goes on working."""

from gfx.train import losses

__all__ = ["losses"]
