"""Trains compressed models: losses, tasks with their data, the schedule of masks and penalties."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gfx.train import losses

if TYPE_CHECKING:
    from gfx.train import tasks

__all__ = ["losses", "tasks"]


def __getattr__(name: str) -> Any:
    if name != "tasks":  # it reads files, which losses and schedules need not wait for
        raise AttributeError(f"module 'gfx.train' has no attribute {name!r}")
    return import_module("gfx.train.tasks")
