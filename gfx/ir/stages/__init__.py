"""Finds the stages of a generator from its graph: stem, down, body, up and head."""

from gfx.ir.stages.layer_calls import is_layer, layer_path, layers
from gfx.ir.stages.name_stages import STAGES, Stage, stages

__all__ = ["STAGES", "Stage", "is_layer", "layer_path", "layers", "stages"]
