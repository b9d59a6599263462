"""Runs a program on batches while somebody looks at, or differentiates, what is read.

Nothing is left behind: the program's tensors, gradients, modes, buffers and the global random
state are what they were. The program runs in eval mode.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from gfx.compression.importance.reads import ReadSite
from gfx.errors import InputError, PreconditionError
from gfx.ir.execute import as_it_was
from gfx.ir.modules import is_own
from gfx.ir.ops import is_inplace
from gfx.ir.program import Program

__all__ = [
    "See",
    "Session",
    "floating",
    "own",
    "parts",
    "ranking",
    "tensors",
    "undisturbed",
    "unrunnable",
]

See = Callable[[int, Tensor], Tensor]  # number of a site, what is read there → what shall be
Use = Callable[[tuple[Any, ...], int], None]


class Session:
    """Runs a program again and again, with its weights as leaves of their own.

    `see` is called at each of the sites, with its number.
    """

    def __init__(self, program: Program, sites: Sequence[ReadSite], see: See, seed: int) -> None:
        self.program = program
        self.shell = _Shell(_Reader(program.module, sites, see))
        self.seed = seed

    def run(self, inputs: tuple[Any, ...], weights: Mapping[str, Tensor], batch: int) -> Any:
        """Returns the output; `weights` replace those of the program, by path.

        Raises: InputError if the program does not run on the inputs.
        """
        module, leaves = (
            self.program.module,
            {id(self.program.tensor(p)): weights[p] for p in weights},
        )
        given = {f"module.{p}": leaves.get(id(w), own(w)) for p, w in module.named_parameters()}
        for path, buffer in module.named_buffers():
            given[f"module.{path}"] = buffer.detach().clone()
        torch.manual_seed(self.seed)
        try:
            copies = pytree.tree_map_only(torch.Tensor, torch.clone, inputs)
            return functional_call(self.shell, given, copies)
        except Exception as error:
            raise unrunnable(self.program, inputs, batch, error) from error

    def each(self, batches: Sequence[tuple[Any, ...]], use: Use) -> None:
        """Calls `use(inputs, number)` for each batch.

        A graph that was traced at one batch size may not run at another: a batch on which it does
        not run is cut into batches of the example inputs' size.
        """
        for number, inputs in enumerate(batches):
            try:
                use(inputs, number)
            except InputError:
                pieces = parts(self.program, inputs)
                if len(pieces) < 2:
                    raise
                for piece in pieces:
                    use(piece, number)


def unrunnable(
    program: Program, inputs: tuple[Any, ...], batch: int, error: Exception
) -> InputError:
    """Makes the error that says which batch a program does not run on, and why."""
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


@contextmanager
def undisturbed(
    program: Program, who: str, gradients: bool = True, otherwise: str = ""
) -> Iterator[None]:
    """Keeps everything about a program and the random state, and turns gradients on or off.

    `who` runs the program, and `otherwise` is what to do instead where that is impossible.

    Raises: PreconditionError if the program has no values to compute with.
    """
    held = [*program.module.parameters(), *program.module.buffers()]
    held += tensors(program.example_inputs)
    if any(t.is_meta for t in held):
        raise PreconditionError(
            f"{who} runs the model, and it is on the meta device, without values; load its weights"
            f"{otherwise}"
        )
    cuda = sorted({t.device.index for t in held if t.device.type == "cuda"})
    with (
        torch.set_grad_enabled(gradients),
        torch.random.fork_rng(devices=cuda),
        as_it_was(program.module),
        _mutations(program) if gradients else nullcontext(),
    ):
        program.module.eval()
        yield


def ranking(
    program: Program, importance: str, gradients: bool = True
) -> AbstractContextManager[None]:
    """Keeps everything while channels are ranked by running a program (see `undisturbed`)."""
    otherwise = ", or use an importance that needs none, such as random"
    return undisturbed(program, f"channel_prune: importance={importance}", gradients, otherwise)


def _mutations(program: Program) -> AbstractContextManager[Any]:
    """Lets a graph that writes in place be differentiated: what a gradient needs is kept."""
    modules = program.module.modules()
    if any(map(is_inplace, program.graph.nodes)) or any(
        getattr(m, "inplace", False) or not (is_own(m) or type(m).__module__.startswith("torch."))
        for m in modules
    ):
        return torch.autograd.graph.allow_mutation_on_saved_tensors()
    return nullcontext()


def own(value: Tensor) -> Tensor:
    """Returns a leaf with the values of a tensor, cut off from its history."""
    return value.clone() if value.is_inference() else value.detach()


def floating(value: Any) -> list[Tensor]:
    """Lists the tensors of a nested value that have a gradient: floating ones, flat and real."""
    found = []
    for tensor in tensors(value):
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        if tensor.is_floating_point() and tensor.numel():
            found.append(tensor)
    return found


class _Reader(fx.Interpreter):
    """Runs a graph and lets somebody change what the readers of channels read."""

    def __init__(self, module: fx.GraphModule, sites: Sequence[ReadSite], see: See) -> None:
        super().__init__(module)
        self.extra_traceback = False  # the first line is what a user needs
        self.see = see
        self.by_node: dict[fx.Node, list[tuple[int, fx.Node]]] = {}
        for number, site in enumerate(sites):
            self.by_node.setdefault(site.read.node, []).append((number, site.read.operand))

    def run_node(self, n: fx.Node) -> Any:
        """Runs a node on what it shall read."""
        held: dict[fx.Node, Any] = {}
        for number, operand in self.by_node.get(n, ()):
            value = self.env[operand]
            held.setdefault(operand, value)
            if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
                self.env[operand] = self.see(number, value)
        try:
            return super().run_node(n)
        finally:
            self.env.update(held)


class _Shell(nn.Module):
    """Makes a module of an interpreter, so that its tensors can be replaced for a call."""

    def __init__(self, reader: _Reader) -> None:
        super().__init__()
        self.module = reader.module
        self.reader = (reader,)  # in a tuple: no submodule

    def forward(self, *inputs: Any) -> Any:
        return self.reader[0].run(*inputs)


def tensors(value: Any) -> list[Tensor]:
    """Lists the tensors of a nested value."""
    return [x for x in pytree.tree_leaves(value) if isinstance(x, Tensor)]


def _rows(inputs: tuple[Any, ...], rows: slice) -> tuple[Any, ...]:
    """Cuts a batch."""
    part: tuple[Any, ...] = pytree.tree_map_only(Tensor, lambda x: x[rows], inputs)
    return part
