"""The user's data, in the form of a program's inputs."""

from gfx.data.batches import batches_of, replayable

__all__ = ["batches_of", "replayable"]
