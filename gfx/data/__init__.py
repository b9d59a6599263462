"""The user's data, in the form of a program's inputs."""

from gfx.data.batches import batches_of, replayable
from gfx.data.stream import Stream

__all__ = ["Stream", "batches_of", "replayable"]
