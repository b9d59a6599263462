"""Checks the result of every pass: structure, signature, honesty, values.

1. structure: the graph lints, nothing in it is dead, its code is the graph's code, no submodule
   is left over, recorded shapes are true, and modules' settings agree with their tensors.
2. signature: the same inputs in the same order, the same outputs with their shapes and dtypes.
3. honesty: the program changed if and only if the pass says so.
4. values: the outputs on seeded inputs equal those of the pass's reference, which draws the random
   numbers of the result; what is drawn for channels that are gone is 1.

Each returns a Check, or raises VerificationError naming the pass, the node, the expected and the
actual value.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from gfx.contract import Keeps, Outcome, Pass
from gfx.errors import InputError, VerificationError
from gfx.ir.drawn_numbers import drawing_as
from gfx.ir.execute import distance, draw, on_meta, run, tolerance
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import forget_shapes, propagate
from gfx.ir.structure import differences, faults

__all__ = ["Check", "honesty", "signature", "structure", "values"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Example:
        >>> Check("values", True, error=2e-7, tolerance=1e-4).passed
        True
    """

    name: str
    passed: bool | None  # None: could not be made; detail says why
    error: float | None = None  # relative to the largest absolute output
    tolerance: float | None = None
    detail: str = ""


def structure(pass_: Pass, after: Program) -> Check:
    """Checks that a program is well formed (rule 1) and writes its shapes anew.

    Raises: VerificationError naming the node or module at fault.
    """
    problem = next(faults(after), None)
    if problem is not None:
        raise VerificationError(f"{pass_.name}: structure: {problem}")
    recorded = {node: _kind(node.meta["val"]) for node in after.nodes() if "val" in node.meta}
    try:
        forget_shapes(after)  # run again: the recorded shapes are under test
        propagate(after)
    except InputError as error:
        raise VerificationError(f"{pass_.name}: structure: {error}") from error
    for node, kind in recorded.items():
        if kind != _kind(node.meta["val"]):
            raise VerificationError(
                f"{pass_.name}: structure: node {node.name} is recorded as {kind}, "
                f"but running it gives {_kind(node.meta['val'])}"
            )
    return Check("structure", True)


def signature(pass_: Pass, before: Program, after: Program) -> Check:
    """Checks that inputs and outputs are unchanged (rule 2); both programs have shapes.

    Raises: VerificationError naming the input or output that changed.
    """
    if Keeps.SIGNATURE not in pass_.keeps:
        return Check("signature", None, detail=f"{pass_.name} does not promise to keep it")
    wanted, got = _inputs(before), _inputs(after)
    if wanted != got:
        raise VerificationError(
            f"{pass_.name}: signature: the inputs were ({', '.join(wanted)}), "
            f"now they are ({', '.join(got)})"
        )
    wanted_leaves, wanted_spec = pytree.tree_flatten(_output(before).meta["val"])
    leaves, spec = pytree.tree_flatten(_output(after).meta["val"])
    if wanted_spec != spec:
        raise VerificationError(
            f"{pass_.name}: signature: the output was {_layout(wanted_leaves, wanted_spec)}, "
            f"now it is {_layout(leaves, spec)}"
        )
    for i, (a, b) in enumerate(zip(wanted_leaves, leaves, strict=True)):
        if _kind(a) != _kind(b):
            raise VerificationError(
                f"{pass_.name}: signature: output {i} ({_source(after, i)}) "
                f"was {_kind(a)}, now it is {_kind(b)}"
            )
    return Check("signature", True, detail=", ".join(_kind(leaf) for leaf in leaves))


def honesty(pass_: Pass, before: Program, after: Program, outcome: Outcome) -> Check:
    """Checks that the program changed if and only if the outcome says so (rule 3).

    Raises: VerificationError naming the first change that is not reported, or only reported.
    """
    found = next(differences(before, after), None)
    if found is not None and not outcome.modified:
        raise VerificationError(f"{pass_.name}: honesty: reports no change, but {found}")
    if found is None and outcome.modified:
        first = outcome.changes[0]
        raise VerificationError(
            f"{pass_.name}: honesty: reports {len(outcome.changes)} change(s), the first at "
            f"{first.node} ({first.what}), but the program is what it was"
        )
    return Check("honesty", True, detail=f"{len(outcome.changes)} changes")


def values(
    pass_: Pass, after: Program, reference: Program | None, known: Any = None
) -> tuple[Check, Any]:
    """Checks the outputs against the reference (rule 4), and returns them with the check.

    `known` is the reference's output if it is already known; else the reference runs too.
    Without a reference the program still has to run and to give finite numbers.

    Raises: VerificationError naming the output, with expected and got where they differ most.
    """
    if on_meta(after):
        return Check("values", None, detail="on the meta device: only shapes were checked"), None
    inputs = draw(after)
    got = run(after, inputs)
    _finite(pass_, after, got, "the program after the pass")
    if reference is None:
        return Check("values", None, detail="no reference; it runs and its output is finite"), got
    drawing = drawing_as(after, reference)
    wanted = known if known is not None and drawing is reference else run(drawing, inputs)
    _finite(pass_, reference, wanted, "the reference, from before the pass,")
    allowed = tolerance(after)
    error = distance(wanted, got)
    if error > allowed:
        raise VerificationError(
            f"{pass_.name}: values: {_worst(after, wanted, got)}; that is {error:.3g} of the "
            f"largest output, {allowed:.0e} is allowed"
        )
    return Check("values", True, error=error, tolerance=allowed), got


def _finite(pass_: Pass, program: Program, output: Any, who: str) -> None:
    for i, leaf in enumerate(pytree.tree_leaves(output)):
        if torch.is_tensor(leaf) and not bool(torch.isfinite(leaf).all()):
            bad = int((~torch.isfinite(leaf)).sum())
            raise VerificationError(
                f"{pass_.name}: values: {who} gives {bad} of {leaf.numel()} values that are not "
                f"finite at output {i} ({_source(program, i)}); {_mend(program)}"
            )
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise VerificationError(
                f"{pass_.name}: values: {who} gives {leaf} at output {i} ({_source(program, i)}), "
                "which is not finite; give example_inputs it can take"
            )


def _mend(program: Program) -> str:
    """Says what to do about values that are not finite: weights may hold some themselves."""
    for path, tensor in (*program.module.named_parameters(), *program.module.named_buffers()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return f"the model's own {path} holds some: give one whose weights are finite"
    return "give example_inputs it can take"


def _worst(program: Program, wanted: Any, got: Any) -> str:
    """Writes where two outputs differ most, and by how much."""
    pairs = list(zip(pytree.tree_leaves(wanted), pytree.tree_leaves(got), strict=False))
    errors = [distance(a, b) for a, b in pairs]
    i = errors.index(max(errors))
    a, b = pairs[i]
    where = f"output {i} ({_source(program, i)})"
    if not torch.is_tensor(a) or _kind(a) != _kind(b):
        return f"{where}: expected {_kind(a)}, got {_kind(b)}"
    gap = (a.double() - b.double()).abs().reshape(-1)
    at = int(gap.argmax())
    place = tuple(int(k) for k in torch.unravel_index(torch.tensor(at), a.shape))
    x, y = a.reshape(-1)[at].item(), b.reshape(-1)[at].item()
    return f"{where} at {place}: expected {x:.6g}, got {y:.6g}"


def _inputs(program: Program) -> list[str]:
    return [node.name for node in program.nodes() if node.op == "placeholder"]


def _output(program: Program) -> fx.Node:
    return next(node for node in program.nodes() if node.op == "output")


def _source(program: Program, index: int) -> str:
    """Names the node that computes one leaf of the output."""
    leaves = pytree.tree_leaves(_output(program).args)
    node = leaves[index] if index < len(leaves) else None
    return node.name if isinstance(node, fx.Node) else repr(node)


def _layout(leaves: list[Any], spec: pytree.TreeSpec) -> str:
    """Writes a structure of outputs: `{'image': float32 1x3x64x64}`."""
    return str(pytree.tree_unflatten([_kind(leaf) for leaf in leaves], spec))


def _kind(value: Any) -> str:
    """Writes the kind of a value: `float32 1x3x64x64` for a tensor."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape))}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_kind(v) for v in value)})"
    return repr(value)
