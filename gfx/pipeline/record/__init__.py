"""Records the original for the report: its layers, and a picture of its output."""

from gfx.pipeline.record.images import Picture, is_image, picture
from gfx.pipeline.record.record import Kept, OutputSample, Record, record_of, sample_of, shown_in
from gfx.pipeline.record.recorded_layers import RecordedLayer, channels_of, layers_of

__all__ = [
    "Kept",
    "OutputSample",
    "Picture",
    "Record",
    "RecordedLayer",
    "channels_of",
    "is_image",
    "layers_of",
    "picture",
    "record_of",
    "sample_of",
    "shown_in",
]
