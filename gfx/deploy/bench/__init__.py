"""Measures models side by side: latency, throughput, memory, and where the time goes."""

from gfx.deploy.bench.bench_result import Bench
from gfx.deploy.bench.figures import Figures
from gfx.deploy.bench.profile import NodeTime, Profile
from gfx.deploy.bench.side_by_side import bench
from gfx.deploy.bench.timed_model import check_alike

__all__ = ["Bench", "Figures", "NodeTime", "Profile", "bench", "check_alike"]
