"""Brings the user's data into the form of a program's inputs."""

from gfx.io.data.batches import batches_of, replayable
from gfx.io.data.stream import Stream
from gfx.io.data.synthetic_inputs import synthetic, synthetic_note

__all__ = ["Stream", "batches_of", "replayable", "synthetic", "synthetic_note"]
