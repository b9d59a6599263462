"""Tasks: what a batch is, how a generator and a discriminator are called with it.

    task = gfx.train.tasks.paired("outlines", "colours", size=64)
"""

from gfx.train.tasks.image_source import ImageSource
from gfx.train.tasks.open_task import (
    inputs,
    latent,
    open_task,
    paired,
    super_resolution,
    unpaired,
)
from gfx.train.tasks.task import Batch, Task

__all__ = [
    "Batch",
    "ImageSource",
    "Task",
    "inputs",
    "latent",
    "open_task",
    "paired",
    "super_resolution",
    "unpaired",
]
