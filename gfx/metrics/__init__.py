"""Measures images and outputs: distances of outputs, of images, and of sets of images.

`metric` compares what a smaller generator returns with what the original returns;
`evaluate` compares sets of images, with their ground truth or with real ones.
"""

from gfx.metrics.evaluate import check_metrics, evaluate
from gfx.metrics.extractors import feature_network
from gfx.metrics.output_distance import METRICS, Metric, image_metrics, metric
from gfx.metrics.reference import Reference
from gfx.metrics.score import Score

__all__ = [
    "METRICS",
    "Metric",
    "Reference",
    "Score",
    "check_metrics",
    "evaluate",
    "feature_network",
    "image_metrics",
    "metric",
]
