"""Tasks: what a batch is, how a generator and a discriminator are called with it.

task = gfx.train.tasks.paired("outlines", "colours", size=64)
"""

from gfx.train.tasks.constructors import inputs, paired, super_resolution, unpaired
from gfx.train.tasks.example_source import ExampleSource
from gfx.train.tasks.label_constructors import attributes, labelled, latent
from gfx.train.tasks.open_task import open_task
from gfx.train.tasks.task import Batch, Example, Task

__all__ = [
    "Batch",
    "Example",
    "ExampleSource",
    "Task",
    "attributes",
    "inputs",
    "labelled",
    "latent",
    "open_task",
    "paired",
    "super_resolution",
    "unpaired",
]
