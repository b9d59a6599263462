"""Records the original for the report: its layers, and a picture of its output."""

from dataclasses import replace

from gfx.ir.program import Program
from gfx.pipeline.record.record import Record, sample_of
from gfx.pipeline.record.recorded_layers import layers_of
from gfx.pipeline.run import Run
from gfx.progress import stage

__all__ = ["Recording"]

_UNVERIFIED = "verify=False, so the original was not run"


class Recording:
    """Records the original before the passes run, the user's data only after them.

    The data are read after the passes have read theirs: so a loader that shuffles gives the passes
    the same batches as without the record.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.unlisted = ""
        program, late = run.program, run.verify and run.context.data is not None
        self.record = Record((), None, _UNVERIFIED)
        try:
            self.record = replace(self.record, layers=layers_of(program, run.cost))
        except Exception as error:  # what only informs may not stop the recipe
            self.unlisted = f"the layers are not listed: {type(error).__name__}: {error}"
        self.original = (run.context.original or program.copy(on_write=True)) if late else None
        if run.verify and not late:
            self._sample(program)

    def finished(self) -> Record:
        """Returns the record; its `why` says what could not be recorded."""
        if self.original is not None:
            self._sample(self.original)
        said = "; ".join(text for text in (self.record.why, self.unlisted) if text)
        return replace(self.record, why=said)

    def _sample(self, program: Program) -> None:
        stage("running the original once, for the report")
        sample, why = sample_of(program, self.run.context.data, seed=self.run.context.seed)
        self.record = replace(self.record, sample=sample, why=why)
