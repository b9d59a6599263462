"""Brings the user's data into the form of a program's inputs."""

from gfx.io.data.batches import batches_of, replayable
from gfx.io.data.image_folder import ImageFolder, with_range
from gfx.io.data.latents import Latents, reads_latents
from gfx.io.data.stream import Stream
from gfx.io.data.synthetic_inputs import synthetic, synthetic_note
from gfx.io.data.value_range import RangeFound

__all__ = [
    "ImageFolder",
    "Latents",
    "RangeFound",
    "Stream",
    "batches_of",
    "reads_latents",
    "replayable",
    "synthetic",
    "synthetic_note",
    "with_range",
]
