"""Factorizes layers of a program: their inputs on batches, their parts, costs and refusals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.compression.factor.compose_parts import compose
from gfx.compression.factor.factorize import factor
from gfx.compression.factor.forms import Form, refusal
from gfx.compression.factor.parts import macs, parameters, rank_of
from gfx.costs import Macs
from gfx.costs.module_macs import module_macs
from gfx.errors import InputError, PreconditionError
from gfx.ir.execute import copied
from gfx.ir.interpreter import Get, Interpreter, ancestors
from gfx.ir.layers import Layer, layers_of, obstacle
from gfx.ir.preserve import evaluating
from gfx.ir.program import Program, has_effect
from gfx.progress import each

__all__ = [
    "Inputs",
    "Priced",
    "check_data",
    "kernel_error",
    "no_gain",
    "parts_of",
    "price",
    "prices_of",
    "why_not",
    "written_rank",
]


def check_data(init: str, data: Any) -> None:
    """Raises PreconditionError if weights are fitted to data and no data are given."""
    if init == "data" and data is None:
        raise PreconditionError(
            "init=data fits weights to what the layers read, and noise would not "
            "do; give data= to gfx.apply, or take init=svd"
        )


class Inputs:
    """Iterates over a layer's inputs, batch by batch; runs only what leads to them, keeps nothing.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> read = Inputs(program, layers_of(program)[1], [program.example_inputs])
        >>> [tuple(x.shape) for x in read], len(list(read))
        ([(1, 32, 4, 4)], 1)
    """

    def __init__(
        self, program: Program, layer: Layer, batches: Sequence[tuple[Any, ...]], seed: int = 0
    ) -> None:
        self.program, self.layer, self.batches, self.seed = program, layer, batches, seed
        self.runner = Interpreter(program.module, only=_leading_to(program, layer))

    def __iter__(self) -> Iterator[Tensor]:
        for number, inputs in enumerate(self.batches):
            for value in self._read(inputs):
                if not bool(torch.isfinite(value).all()):
                    raise InputError(
                        f"{self.layer.path} reads values that are not finite on batch {number} of "
                        "the data; leave out what the model does not take"
                    )
                yield value

    def _read(self, inputs: tuple[Any, ...]) -> list[Tensor]:
        """Runs the program as far as the last call; returns what each call reads."""
        found: list[Tensor] = []

        def see(node: fx.Node, get: Get) -> Any:
            if node in self.layer.calls:
                # a copy: a later node may overwrite it
                found.append(get(node.all_input_nodes[0]).clone())
            return None if node is self.layer.calls[-1] else self.runner.value(node, get)

        given = copied(inputs)
        with evaluating(self.program, seed=self.seed):
            self.runner.run(*given, see=see)
        return found


def _leading_to(program: Program, layer: Layer) -> set[fx.Node]:
    """Collects the last call of a layer, and the earlier nodes that affect what it reads."""
    nodes = list(program.nodes())
    before = nodes[: nodes.index(layer.calls[-1])]
    kept = [node for node in before if node.op == "placeholder" or has_effect(node)]
    return ancestors((*layer.calls, *kept))


@dataclass(frozen=True)
class Priced:
    """Holds the cost of a layer, or of its parts, over all calls."""

    macs: Macs
    params: int


def parts_of(
    program: Program,
    forms: Iterable[tuple[Layer, Form]],
    batches: Sequence[tuple[Any, ...]],
    seed: int = 0,
    rounds: int = 3,
) -> list[nn.Sequential]:
    """Computes the parts of each layer in its form; the program is left unchanged.

    Args:
        program: the program that owns the layers.
        forms: layers, each with its form.
        batches: inputs of the program, for forms that are fitted to what their layer reads.
        seed: seeds the random weights.
        rounds: number of alternations between the parts, where they are fitted.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> [list(p._modules) for p in parts_of(program, [(layers_of(program)[1], Form())], [])]
        [['depthwise', 'pointwise']]
    """
    return [
        factor(
            layer.convolution,
            form,
            inputs=Inputs(program, layer, batches, seed) if form.init == "data" else None,
            seed=seed + number,
            rounds=rounds,
            name=layer.path,
        )
        for number, (layer, form) in each(list(enumerate(forms)), "factorizing layers")
    ]


def kernel_error(layer: nn.Conv2d | nn.ConvTranspose2d, parts: nn.Sequential) -> float | None:
    """Returns how far the parts' kernel is from a layer's, relative to the layer's (Frobenius).

    None if it is not defined: the parts have a norm, or the layer has no values.

    Example:
        >>> conv = nn.Conv2d(4, 4, 3)
        >>> (kernel_error(conv, factor(conv, Form(rank=4))) or 1) < 1e-6
        True
    """
    plain = all(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in parts)
    weight = layer.weight.detach().double()
    if not plain or weight.is_meta:
        return None
    gap = compose(parts).weight.detach().double() - weight
    return float(gap.norm() / weight.norm()) if bool(weight.any()) else float(gap.norm())


def written_rank(layer: Layer, form: Form) -> int | float | None:
    """Returns the rank of a form as a number; the ranks of a Tucker form stay as given.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> written_rank(layers_of(program)[1], Form("low_rank", rank=0.5))
        8
    """
    return form.rank if form.kind == "tucker" else rank_of(layer.convolution, form)


def price(layer: Layer, form: Form | None = None) -> Priced:
    """Counts a layer over all its calls, as it is or written in a form; nothing is computed.

    Example:
        >>> import gfx, torch
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3)), torch.zeros(1, 3, 10, 10))
        >>> (layer,) = layers_of(program)
        >>> price(layer).macs.exact, price(layer, Form()).macs.exact
        (13824, 3264)
    """
    module: Any = layer.module
    shapes = [node.all_input_nodes[0].meta["val"].shape for node in layer.calls]
    if form is not None:
        return Priced(
            sum((macs(module, form, tuple(shape)) for shape in shapes), Macs()),
            parameters(module, form),
        )
    each = [_whole(node, module) for node in layer.calls]
    return Priced(sum(each, Macs()), sum(p.numel() for p in module.parameters()))


def prices_of(program: Program) -> dict[str, Priced]:
    """Counts every layer of a program unchanged, by path."""
    return {layer.path: price(layer) for layer in layers_of(program)}


def _whole(call: fx.Node, module: nn.Module) -> Macs:
    read = call.all_input_nodes[0].meta["val"]
    return module_macs(module, (read,), {}, call.meta["val"]) or Macs()


def why_not(program: Program, layer: Layer, form: Form) -> str:
    """Says why a layer cannot be written in a form; "" if it can.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> why_not(program, layers_of(program)[0], Form(norm="instance"))
        ''
    """
    return obstacle(program, layer) or refusal(layer.module, form) or _too_small(layer, form)


def no_gain(layer: Layer, form: Form) -> str:
    """Says that a form makes a layer no cheaper; "" if it does.

    Cheaper means fewer exact MACs, and no more parameters.
    """
    old, new = price(layer), price(layer, form)
    if new.macs.exact < old.macs.exact and new.params <= old.params:
        return ""
    return (
        f"at rank {rank_of(layer.convolution, form)} it would have {new.macs.exact:,} MACs and "
        f"{new.params:,} parameters in the place of {old.macs.exact:,} and {old.params:,}"
    )


def _too_small(layer: Layer, form: Form) -> str:
    """Says that a norm between the parts has nothing to normalise over; "" if it has."""
    for node in layer.calls:
        shape = node.meta["val"].shape
        if form.norm != "none" and len(shape) != 4:
            return f"it reads no batch: {form.norm} norm between the parts needs (N, C, H, W)"
        if form.norm == "instance" and shape[2:].numel() == 1:
            return "its output is a single position, which an instance norm would erase"
    return ""
