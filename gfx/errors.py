"""The errors gfx raises: one base class, one kind for each thing that can go wrong.

Every message says what was wrong, the value, and what to do about it.
"""

__all__ = [
    "ArchiveError",
    "BudgetError",
    "EditError",
    "ExportError",
    "GfxError",
    "InputError",
    "PreconditionError",
    "RecipeError",
    "RegistryError",
    "TimingError",
    "TraceError",
    "VerificationError",
]


class GfxError(Exception):
    """Any error that gfx raises on purpose; catch this one to catch them all."""


class InputError(GfxError):
    """The model or its example inputs cannot be used as given."""


class TraceError(GfxError):
    """The front end cannot turn the model into a graph."""


class ArchiveError(GfxError):
    """A file cannot be read or written, or is not safe to open."""


class RecipeError(GfxError):
    """A recipe does not say anything gfx can do."""


class RegistryError(GfxError):
    """A pass or a recipe is unknown, or two of them share a name."""


class PreconditionError(GfxError):
    """A pass does not apply to this program."""


class EditError(GfxError):
    """A graph edit would leave a program that does not run."""


class BudgetError(GfxError):
    """A cost budget was not, or cannot be, met."""


class TimingError(GfxError):
    """The machine is too noisy to decide what was asked of the clock."""


class ExportError(GfxError):
    """A program cannot be exported, or what was exported computes something else."""


class VerificationError(GfxError):
    """A pass broke its promise: the program is not what it says it is."""
