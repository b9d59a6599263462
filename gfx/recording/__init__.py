"""What a report keeps of the original: its layers, and a picture of what it gives."""

from gfx.recording.layers import Layer, channels_of, layers_of
from gfx.recording.pictures import Picture, is_image, picture
from gfx.recording.recording import Kept, Record, Sample, record_of, sample_of, shown_in

__all__ = [
    "Kept",
    "Layer",
    "Picture",
    "Record",
    "Sample",
    "channels_of",
    "is_image",
    "layers_of",
    "picture",
    "record_of",
    "sample_of",
    "shown_in",
]
