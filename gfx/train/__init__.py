"""Trains compressed models: losses, and the schedule of masks and penalties."""

from gfx.train import losses

__all__ = ["losses"]
