"""Choices beside widths: forms of layers, and residual blocks that may be skipped."""

from gfx.compression.elastic.form_choices import FormChoices
from gfx.compression.elastic.skippable_blocks import Block, skippable_blocks
from gfx.compression.elastic.write_choices import check_skip, write_choices

__all__ = ["Block", "FormChoices", "check_skip", "skippable_blocks", "write_choices"]
