"""Trains compressed models: losses, tasks with their data, the schedule of masks and penalties."""

from gfx.train import losses, tasks

__all__ = ["losses", "tasks"]
