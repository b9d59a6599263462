"""Trains compressed models: losses, tasks with their data, systems, loops of one's own.

player = gfx.train.prepare("gan-compression-distill", generator, data="shoes")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gfx.train import losses

if TYPE_CHECKING:
    from gfx.train import tasks
    from gfx.train.own_loop import PreparedPlayer, convert, prepare

__all__ = ["PreparedPlayer", "convert", "losses", "prepare", "tasks"]


def __getattr__(name: str) -> Any:
    if name == "tasks":  # it reads files, which losses and schedules need not wait for
        return import_module("gfx.train.tasks")
    if name in ("PreparedPlayer", "convert", "prepare"):
        return getattr(import_module("gfx.train.own_loop"), name)
    raise AttributeError(f"module 'gfx.train' has no attribute {name!r}")
