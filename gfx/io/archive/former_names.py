"""Finds classes of gfx by the names that pickles of version 0.1.0 have for them.

A pickle names each class by its module. `.gfx` archives do not: their names are those of a format.
"""

import pickle
from importlib import import_module
from typing import Any

from gfx.ir.modules import OWN, Ramp

__all__ = ["Unpickler", "former_layers", "load"]

# module in 0.1.0 → module now, or modules where the classes have parted
_MODULES: dict[str, tuple[str, ...]] = {
    "gfx.modules.layers": ("gfx.ir.modules.masked_layers",),
    "gfx.modules.marks": ("gfx.ir.modules.tap_layers",),
    "gfx.modules.masks": ("gfx.ir.modules.channel_masks",),
    "gfx.modules.norms": ("gfx.ir.modules.instance_norms",),
    "gfx.modules.ramp": ("gfx.ir.modules.sparsity_ramp",),
    "gfx.modules.sparse": ("gfx.ir.modules.sparse_linear",),
    "gfx.costing.cost": ("gfx.costs.cost",),
    "gfx.verify": ("gfx.pipeline.verify",),
    "gfx.reporting": ("gfx.pipeline.report", "gfx.pipeline.pass_report"),
    "gfx.recording.layers": ("gfx.pipeline.record.recorded_layers",),
    "gfx.recording.pictures": ("gfx.pipeline.record.images",),
    "gfx.recording.recording": ("gfx.pipeline.record.record",),
}
# class in 0.1.0 → class now, where it has another name
_CLASSES = {
    ("gfx.recording.layers", "Layer"): "RecordedLayer",
    ("gfx.recording.recording", "Sample"): "OutputSample",
}


class Unpickler(pickle.Unpickler):
    """Unpickles what is trusted, classes of gfx under their former names too."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the class that a pickle names.

        Raises: AttributeError or ImportError if there is none.
        """
        wanted = _CLASSES.get((module, name), name)
        for home in _MODULES.get(module, ()):
            if hasattr(import_module(home), wanted):
                return getattr(import_module(home), wanted)
        return super().find_class(module, name)


def load(file: Any, **options: Any) -> Any:
    """Reads a pickle; torch.load asks its pickle module for this."""
    return Unpickler(file, **options).load()


def former_layers() -> list[tuple[Any, str]]:
    """Pairs layers of gfx with their names in 0.1.0, as `torch.serialization` takes them.

    Example:
        >>> [name for kind, name in former_layers() if kind is Ramp]
        ['gfx.modules.ramp.Ramp']
    """
    found = {home: module for module, homes in _MODULES.items() for home in homes}
    known = {kind for kind in (*OWN, Ramp) if kind.__module__ in found}  # others are younger
    kinds = sorted(known, key=lambda kind: kind.__name__)
    return [(kind, f"{found[kind.__module__]}.{kind.__name__}") for kind in kinds]
