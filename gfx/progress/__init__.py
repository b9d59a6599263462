"""Reports what long operations do and how far they are, and bounds the time that searches take."""

from gfx.progress.deadline import (
    Deadline,
    current_deadline,
    out_of_time,
    part_of_time,
    stopped,
    time_limit,
)
from gfx.progress.events import (
    Listener,
    Progress,
    ProgressEvent,
    each,
    listening,
    stage,
    step,
)
from gfx.progress.live_line import LiveLine, reported, reporting

__all__ = [
    "Deadline",
    "Listener",
    "LiveLine",
    "Progress",
    "ProgressEvent",
    "current_deadline",
    "each",
    "listening",
    "out_of_time",
    "part_of_time",
    "reported",
    "reporting",
    "stage",
    "step",
    "stopped",
    "time_limit",
]
