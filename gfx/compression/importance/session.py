"""Runs a program on batches with callbacks that observe, or differentiate, what is read.

The program's tensors, gradients, modes, buffers and the global random state are restored. The
program runs in eval mode.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from gfx.compression.importance.reads import ReadSite
from gfx.coupling.call import Read
from gfx.errors import InputError
from gfx.ir.execute import copied, own, parts, require_values, unrunnable
from gfx.ir.interpreter import Get, Interpreter, overlaid
from gfx.ir.preserve import evaluating
from gfx.ir.program import Program
from gfx.progress import each, out_of_time, stopped

__all__ = ["See", "Session", "ranking"]

See = Callable[[int, Tensor], Tensor]  # (number of a site, value read there) → replacement
Use = Callable[[tuple[Any, ...], int], None]


class Session:
    """Runs a program repeatedly, with its weights as leaf tensors.

    `see` is called at each of the sites, with its number; a batch that is folded into the channels
    is undone (`Read.apart`).
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
            return functional_call(self.shell, given, copied(inputs))
        except Exception as error:
            raise unrunnable(self.program, inputs, batch, error) from error

    def each(self, batches: Sequence[tuple[Any, ...]], use: Use) -> None:
        """Calls `use(inputs, number)` for each batch.

        A graph that was traced at one batch size may not run at another: a batch on which it does
        not run is cut into batches of the example inputs' size. Once the time is over, the first
        batches are enough.
        """
        for number, inputs in each(list(enumerate(batches)), "ranking channels on batches"):
            if number and out_of_time():
                stopped(f"channels were ranked on {number} of {len(batches)} batches")
                break
            try:
                use(inputs, number)
            except InputError:
                pieces = parts(self.program, inputs)
                if len(pieces) < 2:
                    raise
                for piece in pieces:
                    use(piece, number)


@contextmanager
def ranking(program: Program, importance: str, gradients: bool = True) -> Iterator[None]:
    """Restores the program's state after its channels are ranked by running it.

    Raises: PreconditionError if the program has no values to compute with.
    """
    otherwise = ", or use an importance that needs none, such as random"
    require_values(program, f"importance={importance}", otherwise)
    with evaluating(program, gradients=gradients):
        yield


class _Reader:
    """Runs a graph and lets a callback change what the readers of channels read."""

    def __init__(self, module: fx.GraphModule, sites: Sequence[ReadSite], see: See) -> None:
        self.runner = Interpreter(module)
        self.see = see
        self.by_node: dict[fx.Node, list[tuple[int, Read]]] = {}
        for number, site in enumerate(sites):
            self.by_node.setdefault(site.read.node, []).append((number, site.read))

    def value(self, node: fx.Node, get: Get) -> Any:
        """Runs a node on the operands that the callback returns."""
        instead: dict[fx.Node, Any] = {}
        for number, read in self.by_node.get(node, ()):
            value = overlaid(get, instead)(read.operand)
            if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
                seen = self.see(number, read.apart(value))
                instead[read.operand] = read.together(seen, value)
        return self.runner.value(node, overlaid(get, instead))


class _Shell(nn.Module):
    """Wraps an interpreter as a module, so that its tensors can be replaced for a call."""

    def __init__(self, reader: _Reader) -> None:
        super().__init__()
        self.module = reader.runner.module
        self.reader = (reader,)  # in a tuple: no submodule

    def forward(self, *inputs: Any) -> Any:
        reader = self.reader[0]
        return reader.runner.run(*inputs, see=reader.value)
