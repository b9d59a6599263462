"""Feeds training: which examples a step sees, and their batches ahead of time."""

from gfx.train.feeding.loader import Loader

__all__ = ["Loader"]
