"""Compares an exported file with the program, on fresh inputs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from gfx.deploy.export.runtimes import Runtime
from gfx.errors import ExportError
from gfx.ir.execute import distance, draw, tensors
from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["Parity", "compare", "fresh"]


@dataclass(frozen=True)
class Parity:
    """Holds the error of an exported file.

    Example:
        >>> Parity(2e-7, 1e-4).holds
        True
    """

    error: float  # relative to the largest absolute output
    allowed: float
    where: str = ""  # the output that differs most, and its shape

    @property
    def holds(self) -> bool:
        """Whether the error is allowed."""
        return self.error <= self.allowed


def compare(runtime: Runtime, wanted: Any, inputs: tuple[Any, ...], allowed: float) -> Parity:
    """Runs an exported file on inputs and compares the outputs with those wanted.

    Raises: ExportError if it does not run, or a wanted output is not finite.
    """
    leaves = tensors(wanted)
    for i, leaf in enumerate(leaves):
        if not bool(torch.isfinite(leaf).all()):
            raise ExportError(
                f"output {i} of the program is not finite on fresh inputs like the example "
                "inputs, so nothing can be compared; give example inputs it can take"
            )
    got = runtime(inputs)
    if len(got) != len(leaves):
        where = f"{len(got)} outputs instead of {len(leaves)}"
        return Parity(float("inf"), allowed, where)
    errors = [distance(a.cpu(), b.cpu()) for a, b in zip(leaves, got, strict=True)]
    worst = max(range(len(errors)), key=errors.__getitem__)
    return Parity(errors[worst], allowed, _where(worst, leaves[worst], got[worst]))


def fresh(program: Program, inputs: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """Draws new values in the shapes of some inputs; integers within their valid range.

    Integers are drawn below the size of the embedding that they index, else in the range of the
    given ones.

    Example:
        >>> import gfx
        >>> program = gfx.trace(nn.Embedding(10, 2), torch.zeros(1, 100, dtype=torch.int64))
        >>> drawn = fresh(program, program.example_inputs, seed=1)[0]
        >>> int(drawn.min()), int(drawn.max())
        (0, 9)
    """
    generator = torch.Generator().manual_seed(seed)
    nodes = [node for node in program.nodes() if node.op == "placeholder"]
    drawn = draw(replace(program, example_inputs=inputs), seed)

    def integers(x: torch.Tensor, below: int | None) -> torch.Tensor:
        if x.is_floating_point() or x.is_complex() or not x.numel():
            return x
        if x.dtype == torch.bool:
            return torch.randint(0, 2, x.shape, generator=generator).to(x.device, x.dtype)
        low, high = (int(x.min()), int(x.max()) + 1) if below is None else (0, below)
        return torch.randint(low, high, x.shape, generator=generator).to(x.device, x.dtype)

    redrawn = []
    for value, node in zip(drawn, nodes, strict=True):
        below = _below(program, node)
        leaves, spec = pytree.tree_flatten(value)
        leaves = [integers(x, below) if isinstance(x, torch.Tensor) else x for x in leaves]
        redrawn.append(pytree.tree_unflatten(leaves, spec))
    return tuple(redrawn)


def _below(program: Program, node: fx.Node) -> int | None:
    """Returns the number of values that an integer input may have, None if unknown."""
    found: list[int] = []
    for user in node.users:
        module = program.submodule(user) if user.op == "call_module" else None
        name = op_name(user)
        if isinstance(module, nn.Embedding):
            found.append(module.num_embeddings)
        elif name == "embedding" and (table := _table(user)) is not None:
            found.append(program.tensor(table).shape[0])
        elif name == "one_hot" and isinstance(user.args[-1], int):
            found.append(user.args[-1])
    return min((size for size in found if size > 0), default=None)


def _table(node: fx.Node) -> str | None:
    """Finds the path of the weight that an embedding reads."""
    read = [n for n in node.all_input_nodes if n.op == "get_attr"]
    return str(read[0].target) if len(read) == 1 else None


def _where(index: int, wanted: torch.Tensor, got: torch.Tensor) -> str:
    shapes = ["x".join(map(str, x.shape)) or "one number" for x in (wanted, got)]
    if shapes[0] != shapes[1] or wanted.dtype != got.dtype:
        return f"output {index}, {wanted.dtype} {shapes[0]} and exported {got.dtype} {shapes[1]}"
    return f"output {index}, {shapes[0]}"
