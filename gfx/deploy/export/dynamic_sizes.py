"""Finds the export with the most dynamic sizes: sizes that fail the comparison are fixed."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

from gfx.deploy.export.attempt import ExportAttempt, Format, attempt, trials
from gfx.deploy.export.blame import NoForm
from gfx.deploy.export.export_subject import ExportSubject
from gfx.deploy.export.parity import Parity, compare, fresh
from gfx.deploy.export.runtimes import Runtime, in_onnxruntime, in_torch
from gfx.deploy.export.size_ranges import Extent, Factors, resized, survey
from gfx.errors import ExportError
from gfx.ir.execute import run, tolerance
from gfx.ir.modules import SizeRules
from gfx.progress import each, stage

__all__ = ["SizeSearch"]

_OPEN: dict[Format, Callable[[bytes], Runtime]] = {"onnx": in_onnxruntime, "pt2": in_torch}
_SEEDS = (1, 2, 3)  # of the fresh inputs at the sizes of the example


class SizeSearch:
    """Exports with all extents dynamic at which the program runs, then with fewer if that fails.

    1. An extent that torch fixes is given up.
    2. An extent at which the file computes something else than the model is given up.
    3. Where the export as a whole fails (it raises, or differs even at the example's sizes), first
       the spatial extents are given up, then the batch.
    4. With nothing left to give up, it is an error.
    """

    def __init__(
        self, subject: ExportSubject, form: Format, opset: int | None, *, dynamic: bool, check: bool
    ) -> None:
        self.subject = subject
        self.form: Format = form
        self.opset = opset
        self.check = check
        self.allowed = tolerance(subject.program)
        self.free: dict[Extent, tuple[Fraction, ...]] = {}
        self.fixed: dict[str, str] = {}  # reason by name of the extent
        self.error: float | None = None
        self.comparisons = 0
        self.outputs: dict[Any, Any] = {}  # of the model, by seed and size
        if dynamic:
            found = survey(subject.program)
            self.free = dict(found.free)
            self.fixed = {extent.name: why for extent, why in found.fixed.items()}
            if form == "onnx":
                self.close_ruled()

    def close_ruled(self) -> None:
        """Fixes the sizes that rules of the program speak of: an ONNX file cannot check them."""
        layers = [p for p in self.subject.program.module.modules() if isinstance(p, SizeRules)]
        rules = [rule for layer in layers for rule in layer.rules]
        for extent in list(self.free):
            spoken = [r for r in rules for _, dim in extent.places if f".shape[{dim}]" in r]
            if spoken:
                self.give_up([extent], f"ONNX cannot check that {spoken[0]}, which must hold")

    def run(self) -> ExportAttempt:
        """Returns the export.

        Raises: ExportError that says what fails and by how much.
        """
        while True:
            try:
                made = self.once()
            except ExportError as error:
                if not self.free or isinstance(error, NoForm):
                    raise ExportError(f"{error}; nothing was written") from error
                self.give_up(self.weakest(), str(error))  # rule 3
            else:
                if made is not None:
                    return made

    def once(self) -> ExportAttempt | None:
        """Exports with the extents that are free now; None: one was given up."""
        stage(f"exporting as {self.form}")
        made = attempt(self.subject.program, self.free, self.form, self.opset)
        stuck = [extent for extent in self.free if extent.name not in made.open]
        if stuck:
            self.give_up(stuck, "torch.export takes it for a constant of the program")  # rule 1
            return None
        if not self.check:
            return made
        runtime = _OPEN[self.form](made.data)
        self.error, self.comparisons = 0.0, 0
        for seed in each(_SEEDS, "comparing what was exported"):
            self.must_hold(runtime, {}, seed)
        sizes = list(trials(self.subject.program, self.free))
        for factors in each(sizes, "comparing what was exported at other sizes"):
            failing = self.failing(runtime, factors)
            for extent, why in failing.items():
                self.give_up([extent], why)  # rule 2
            if failing:
                return None
        return made

    def failing(self, runtime: Runtime, factors: Factors) -> dict[Extent, str]:
        """Finds the extents to give up after a comparison at other sizes, and says why."""
        together = self.fault(runtime, factors)
        if together is None:
            return {}
        found: dict[Extent, str] = {}
        for extent in self.free:
            if extent.name in factors:
                why = self.fault(runtime, {extent.name: factors[extent.name]})
                found |= {} if why is None else {extent: why}
        return found or dict.fromkeys(self.weakest(), together)

    def fault(self, runtime: Runtime, factors: Factors) -> str | None:
        """Says how the file differs from the model at other sizes, None if it does not differ."""
        try:
            self.must_hold(runtime, factors, seed=len(_SEEDS) + 1)
        except ExportError as error:
            return str(error)
        return None

    def must_hold(self, runtime: Runtime, factors: Factors, seed: int) -> None:
        """Compares once.

        Raises: ExportError if the exported file computes something else.
        """
        program = self.subject.program
        inputs = fresh(program, resized(program.example_inputs, factors, self.free), seed)
        try:
            found = compare(runtime, self.wanted(inputs, factors, seed), inputs, self.allowed)
        except ExportError as error:
            raise ExportError(f"with {_shapes(inputs)}, {error}") from error
        if not found.holds:
            raise ExportError(_differs(found, inputs))
        self.comparisons += 1
        self.error = max(self.error or 0.0, found.error)

    def wanted(self, inputs: tuple[Any, ...], factors: Factors, seed: int) -> Any:
        """Returns the model's output; it runs once for each seed and size."""
        key = (seed, *sorted(factors.items()))
        if key not in self.outputs:
            program = replace(self.subject.program, module=cast(Any, self.subject.model))
            self.outputs[key] = run(program, inputs)
        return self.outputs[key]

    def give_up(self, extents: Iterable[Extent], why: str) -> None:
        """Fixes extents at the sizes of the example."""
        for extent in extents:
            self.fixed[extent.name] = why.partition("; ")[0]  # advice is for errors
            del self.free[extent]

    def weakest(self) -> list[Extent]:
        """Lists the extents to give up first: all but the batch."""
        return [extent for extent in self.free if extent.name != "batch"] or list(self.free)


def _differs(found: Parity, inputs: tuple[Any, ...]) -> str:
    return (
        f"outputs differ after export: with fresh inputs of {_shapes(inputs)}, {found.where}, is "
        f"{found.error:.3g} of its largest value away; {found.allowed:.0e} is allowed"
    )


def _shapes(inputs: tuple[Any, ...]) -> str:
    leaves = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    return ", ".join("x".join(map(str, leaf.shape)) or "one number" for leaf in leaves)
