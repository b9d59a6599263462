"""Finds the stages of a generator from its graph: stem, down, body, up and head."""

from gfx.stages.calls import is_layer, layer_path, layers
from gfx.stages.naming import STAGES, Stage, stages

__all__ = ["STAGES", "Stage", "is_layer", "layer_path", "layers", "stages"]
