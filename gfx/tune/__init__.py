"""What training needs."""

from gfx.tune import losses

__all__ = ["losses"]
