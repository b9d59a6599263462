"""Runs a program on check inputs and measures the distance of two outputs.

The program's modes, buffers and hook-made weights and the global random state are restored.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.errors import InputError, PreconditionError
from gfx.ir.preserve import evaluating
from gfx.ir.program import Program
from gfx.objects.take_apart import leaves, mapped, plain

__all__ = [
    "copied",
    "distance",
    "draw",
    "draw_like",
    "floating",
    "on_meta",
    "own",
    "parts",
    "require_values",
    "run",
    "tensors",
    "tensors_of",
    "tolerance",
    "tolerance_of",
    "unrunnable",
]

_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.complex128: 1e-9}
_HALF = 2e-2


def draw(program: Program, seed: int = 0) -> tuple[Any, ...]:
    """Draws fresh values for the floating example inputs; everything else is kept.

    Values are uniform in the range of the example (so that a one-hot map or an image stays in its
    own range), normal where the example is constant.

    Shapes: those of the example inputs, dtype and device too.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> torch.equal(draw(program, seed=1)[0], draw(program, seed=1)[0])
        True
    """
    generator = torch.Generator().manual_seed(seed)
    inputs: tuple[Any, ...] = pytree.tree_map_only(
        torch.Tensor, lambda x: draw_like(x, generator), program.example_inputs
    )
    return inputs


def draw_like(example: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draws one input as `draw` does.

    Example:
        >>> draw_like(torch.arange(3), torch.Generator())
        tensor([0, 1, 2])
    """
    if not example.is_floating_point() or example.device.type == "meta" or example.numel() == 0:
        return example.clone()
    low, high = float(example.min()), float(example.max())
    if low < high:
        drawn = torch.rand(example.shape, generator=generator) * (high - low) + low
    else:
        drawn = torch.randn(example.shape, generator=generator)
    return drawn.to(example.device, example.dtype)


def run(program: Program, inputs: tuple[Any, ...], seed: int = 0) -> Any:
    """Runs a program in eval mode, without gradients, under a seeded random state.

    Objects that it returns are taken apart, into dictionaries of their fields.

    The inputs are cloned: a model that writes into its input does not change them.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> run(program, program.example_inputs).shape
        torch.Size([1, 3, 64, 64])
    """
    given = copied(inputs)
    with evaluating(program, seed=seed):
        return plain(program.module(*given))


def distance(reference: Any, got: Any) -> float:
    """Returns the largest absolute difference, relative to the largest absolute reference.

    Each output tensor counts for itself; integers and booleans differ by 0 or infinity, and so do
    values that are not finite, or outputs of another structure or shape.

    Example:
        >>> distance(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]))
        0.25
    """
    ours, spec = pytree.tree_flatten(plain(reference))
    others, other_spec = pytree.tree_flatten(plain(got))
    if spec != other_spec:
        return float("inf")
    return max((_leaf(a, b) for a, b in zip(ours, others, strict=True)), default=0.0)


def tolerance(program: Program) -> float:
    """Returns the tolerance for the coarsest floating dtype that a program computes in.

    1e-9 for float64, 1e-4 for float32, 2e-2 for half precision.

    Example:
        >>> import gfx
        >>> tolerance(gfx.trace(gfx.zoo.build("dcgan")))
        0.0001
    """
    kinds = {t.dtype for t in tensors_of(program) if t.is_floating_point() or t.is_complex()}
    return max(map(tolerance_of, kinds), default=1e-4)


def tolerance_of(kind: torch.dtype) -> float:
    """Returns the share of the largest value that rounding may cost in a floating dtype."""
    return _TOLERANCES.get(kind, _HALF)


def on_meta(program: Program) -> bool:
    """Whether a program has no values to compute with: something of it is on the meta device.

    Example:
        >>> import gfx
        >>> with torch.device("meta"):
        ...     model = gfx.zoo.build("dcgan")
        >>> on_meta(gfx.trace(model))
        True
    """
    return any(t.is_meta for t in tensors_of(program))


def _leaf(a: Any, b: Any) -> float:
    if not (torch.is_tensor(a) and torch.is_tensor(b)):
        return 0.0 if a == b else float("inf")
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if not (a.is_floating_point() or a.is_complex()):
        return 0.0 if torch.equal(a, b) else float("inf")
    if a.numel() == 0:
        return 0.0
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())):
        return float("inf")
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    scale = float(a.abs().max())
    gap = float((a - b).abs().max())
    return gap / scale if scale > 0 else gap


def require_values(program: Program, who: str, otherwise: str = "") -> None:
    """Checks that a program has values to compute with.

    `who` runs the program, and `otherwise` is what to do instead where that is impossible.

    Raises: PreconditionError if something of it is on the meta device.
    """
    if on_meta(program):
        raise PreconditionError(
            f"{who} runs the model, and it is on the meta device, without values; load its weights"
            f"{otherwise}"
        )


def unrunnable(
    program: Program, inputs: tuple[Any, ...], batch: int, error: Exception
) -> InputError:
    """Makes the error that names the batch that a program does not run on, and the cause."""
    shapes = ", ".join("x".join(map(str, x.shape)) for x in tensors(inputs))
    examples = tensors(program.example_inputs)
    example = ", ".join("x".join(map(str, x.shape)) for x in examples)
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError(
        f"the model does not run on batch {batch}, of shape {shapes} (the example inputs "
        f"have {example}): {text}; give batches of the example inputs' shape"
    )


def parts(program: Program, inputs: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Cuts a batch into batches of the example inputs' size; what is left over is dropped.

    Returns: nothing if it cannot be cut.
    """
    sizes = {x.shape[0] if x.ndim else 0 for x in tensors(inputs)}
    examples = {x.shape[0] if x.ndim else 0 for x in tensors(program.example_inputs)}
    if len(sizes) != 1 or len(examples) != 1:
        return []
    size, step = sizes.pop(), examples.pop()
    starts = range(0, size - step + 1, step) if step else ()
    return [_rows(inputs, slice(start, start + step)) for start in starts]


def tensors(value: Any) -> list[Tensor]:
    """Lists the tensors of a nested value."""
    return [x for x in leaves(value) if isinstance(x, Tensor)]


def tensors_of(program: Program) -> list[Tensor]:
    """Lists a program's parameters, buffers and example inputs."""
    held = [*program.module.parameters(), *program.module.buffers()]
    return [*held, *tensors(program.example_inputs)]


def floating(value: Any) -> list[Tensor]:
    """Lists the tensors of a nested value that have a gradient: floating ones, flat and real."""
    found = []
    for tensor in tensors(value):
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        if tensor.is_floating_point() and tensor.numel():
            found.append(tensor)
    return found


def own(value: Tensor) -> Tensor:
    """Returns a leaf with the values of a tensor, cut off from its history."""
    return value.clone() if value.is_inference() else value.detach()


def copied(value: Any) -> Any:
    """Clones every tensor of a nested value."""
    return mapped(torch.clone, value)


def _rows(inputs: tuple[Any, ...], rows: slice) -> tuple[Any, ...]:
    """Cuts a batch."""
    part: tuple[Any, ...] = pytree.tree_map_only(Tensor, lambda x: x[rows], inputs)
    return part
