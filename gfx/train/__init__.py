"""What training needs."""

from gfx.train import losses

__all__ = ["losses"]
