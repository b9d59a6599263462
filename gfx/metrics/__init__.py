"""Measures: how far outputs are from the original's, and how good the images of a generator are."""

from gfx.metrics.image_scores import IMAGE_SCORES, Score, evaluate
from gfx.metrics.output_distance import METRICS, Metric, image_metrics, metric

__all__ = ["IMAGE_SCORES", "METRICS", "Metric", "Score", "evaluate", "image_metrics", "metric"]
