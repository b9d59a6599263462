"""Measures models side by side: latency, throughput, memory, and where the time goes."""

from gfx.benching.figures import Bench, Figures
from gfx.benching.measuring import bench
from gfx.benching.profile import NodeTime, Profile
from gfx.benching.subject import check_alike

__all__ = ["Bench", "Figures", "NodeTime", "Profile", "bench", "check_alike"]
