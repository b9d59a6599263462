"""The former name of `gfx.train`: `from gfx.tune import losses` goes on working."""

from gfx.train import losses

__all__ = ["losses"]
