"""Reads off a program in which range it takes images: by what it does to them, and by its output.

Both follow single operations, as numbers that each channel is multiplied by and that are added.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["told_by_input", "told_by_output"]

Range = tuple[float, float]
Told = tuple[float, float, str]  # black, white, and what tells it
Numbers = NDArray[np.float64]

_USUAL: tuple[Range, ...] = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))
_BOUNDED: dict[str, Range] = {
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softsign": (-1.0, 1.0),
}
# what moves values and changes none
_MOVES = frozenset(
    "view reshape permute contiguous flatten unflatten squeeze unsqueeze clone detach float to "
    "getitem slice pixel_shuffle pixel_unshuffle transpose movedim pad dropout identity "
    "reflectionpad2d replicationpad2d zeropad2d".split()
)
_MOST_STEPS = 24  # nodes that are followed from the input, and from the output
_MEANS = (0.2, 0.8)  # where mean colours lie, as shares of white


# what the model does to its input


def told_by_input(program: Program) -> Told | None:
    """Follows the input while each of its channels is multiplied and added to (rule 2)."""
    images = [n for n in program.graph.nodes if n.op == "placeholder" and n.users]
    if len(images) != 1:
        return None
    found = list(_tellings(program, images[0]))
    same = len({told[:2] for told in found}) == 1
    return found[0] if same else None


def _tellings(program: Program, image: fx.Node) -> Iterator[Told]:
    waiting: list[tuple[fx.Node, Numbers, Numbers]] = [(image, np.ones(1), np.zeros(1))]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return
        node, scale, shift = waiting.pop(0)
        for user in node.users:
            step = _step(program, user, node)
            if step is None or not _alike(scale, shift, *step):
                continue
            scaled, shifted = step[0] * scale, step[0] * shift + step[1]
            usual = _usual(scaled, shifted)
            if usual is None:
                waiting.append((user, scaled, shifted))
                continue
            name = str(user.target) if user.op == "call_module" else user.name
            doing = "scales" if not shifted.any() else "shifts"
            yield (*usual, f"{name}, which {doing} the model's input, tells")


def _alike(*numbers: Numbers) -> bool:
    """Whether numbers are for as many channels, or for all alike."""
    return len({each.size for each in numbers} - {1}) <= 1


def _usual(scale: Numbers, shift: Numbers) -> Range | None:
    """Tells the range of x from scale * x + shift; None if it may be any."""
    if not np.all(scale):
        return None
    if not shift.any():
        if np.allclose(scale, 1 / 255, rtol=0.01):
            return (0.0, 255.0)
        return (0.0, 1.0) if np.allclose(scale, 255, rtol=0.01) else None
    zero = -shift / scale  # what becomes 0: the mean
    if np.allclose(zero, -1, atol=1e-3):
        return (-1.0, 1.0)
    for white in (1.0, 255.0):
        if ((zero >= _MEANS[0] * white) & (zero <= _MEANS[1] * white)).all():
            return (0.0, white)
    return None


def _step(program: Program, node: fx.Node, given: fx.Node) -> tuple[Numbers, Numbers] | None:
    """Returns what a node multiplies its input by and adds to it, for each channel."""
    name = _name(program, node)
    if name in _MOVES:
        return np.ones(1), np.zeros(1)
    if node.op == "call_module":
        module = program.submodule(node)
        return _mean_shift(module.weight, module.bias) if _is_pointwise(module) else None
    if name == "neg":
        return -np.ones(1), np.zeros(1)
    if name not in ("add", "sub", "mul", "div", "rsub") or len(node.args) < 2:
        return None
    first = node.args[0] is given
    other = _numbers(program, node.args[1] if first else node.args[0])
    if other is None or node.kwargs.get("alpha", 1) != 1:
        return None
    if name == "add":
        return np.ones(1), other
    if name in ("sub", "rsub"):
        ahead = first if name == "sub" else not first
        return (np.ones(1), -other) if ahead else (-np.ones(1), other)
    if name == "mul":
        return other, np.zeros(1)
    return (1 / other, np.zeros(1)) if first and np.all(other) else None


def _is_pointwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels == module.out_channels <= 4
        and module.groups == 1
        and set((*module.kernel_size, *module.stride)) == {1}
        and module.bias is not None
    )


def _mean_shift(weight: Any, bias: Any) -> tuple[Numbers, Numbers] | None:
    """Reads a 1x1 convolution that mixes no colours."""
    if weight.is_meta:
        return None
    kernel = weight.detach().double().cpu().numpy()[:, :, 0, 0]
    scale = np.diagonal(kernel)
    if np.abs(kernel - np.diag(scale)).max() > 1e-6 * np.abs(scale).max():
        return None
    return scale, bias.detach().double().cpu().numpy()


def _numbers(program: Program, value: Any) -> Numbers | None:
    """Returns a number, or a stored tensor of one number for each channel."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return np.array([float(value)])
    if isinstance(value, fx.Node) and value.op == "get_attr":
        tensor = program.tensor(str(value.target))
        colours = tensor.numel() == 1 or (
            tensor.ndim >= 3 and tensor.numel() == tensor.shape[-3] <= 4
        )
        if colours and tensor.is_floating_point() and not tensor.is_meta:
            return tensor.detach().double().flatten().cpu().numpy()
    if isinstance(value, fx.Node) and _name(program, value) in _MOVES and value.args:
        return _numbers(program, value.args[0])  # mean.view(1, -1, 1, 1), mean.to(x)
    return None


# how the output is bounded


def told_by_output(program: Program) -> Told | None:
    """Reads the bounds of the first output (rule 3)."""
    output = next(iter(reversed(program.graph.nodes)))
    first = next(iter(output.all_input_nodes), None)
    if first is None:
        return None
    found = _bounds(program, first, _MOST_STEPS)
    if found is None:
        return None
    low, high, name = found
    for usual in _USUAL:
        if np.allclose((low, high), usual, atol=1e-3 * usual[1]):
            return (*usual, f"the {name} at the model's end tells")
    return None


def _bounds(program: Program, node: fx.Node, steps: int) -> tuple[float, float, str] | None:
    """Returns the least and largest value of a node, and what bounds it."""
    name = _name(program, node)
    if name in _BOUNDED:
        return (*_BOUNDED[name], _spelled(program, node, name))
    if name in ("clamp", "clip", "hardtanh"):
        limits = _limits(program, node)
        return None if limits is None else (*limits, _spelled(program, node, name))
    inner = [n for n in node.all_input_nodes if n.op != "get_attr"]
    if not steps or len(inner) != 1:
        return None
    step = _step(program, node, inner[0])
    found = _bounds(program, inner[0], steps - 1) if step is not None else None
    if step is None or found is None or step[0].size > 1 or step[1].size > 1:
        return None
    ends = sorted(float(step[0][0]) * end + float(step[1][0]) for end in found[:2])
    return ends[0], ends[1], found[2]


def _limits(program: Program, node: fx.Node) -> Range | None:
    if node.op == "call_module":
        module = program.submodule(node)
        ends: list[Any] = [getattr(module, "min_val", None), getattr(module, "max_val", None)]
    else:
        names = ("min", "max") if op_name(node) != "hardtanh" else ("min_val", "max_val")
        usual = (None, None) if op_name(node) != "hardtanh" else (-1.0, 1.0)
        ends = [
            node.args[place] if len(node.args) > place else node.kwargs.get(name, usual[place - 1])
            for place, name in enumerate(names, 1)
        ]
    if not all(isinstance(end, int | float) for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def _name(program: Program, node: fx.Node) -> str:
    """Names an operation, of a function or of a module, in one way."""
    if node.op == "call_module":
        return type(program.submodule(node)).__name__.lower()
    return op_name(node)


def _spelled(program: Program, node: fx.Node, name: str) -> str:
    return type(program.submodule(node)).__name__ if node.op == "call_module" else name
