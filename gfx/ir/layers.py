"""Lists the layers of a program that a factorization may replace."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from gfx.ir.modules import MaskedLayer, penalised
from gfx.ir.ops import op_name
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["Layer", "layers_of", "obstacle", "unlayered"]

_FUNCTIONS = frozenset(f"conv{turned}{n}d" for turned in ("", "_transpose") for n in (1, 2, 3)) | {
    "linear"
}


@dataclass(frozen=True)
class Layer:
    """Describes a convolution, transposed convolution or linear layer, with all its calls."""

    path: str  # module path, the one of its first call
    module: nn.Module
    calls: tuple[fx.Node, ...]

    @property
    def convolution(self) -> nn.Conv2d | nn.ConvTranspose2d:
        """The module, which is known to be a convolution of images."""
        assert isinstance(self.module, nn.Conv2d | nn.ConvTranspose2d)
        return self.module


def layers_of(program: Program) -> tuple[Layer, ...]:
    """Lists the layers of a program in the order of their first calls.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> [layer.path for layer in layers_of(program)][:2]
        ['project.conv', 'up.0.conv']
    """
    propagate(program)  # prices follow from shapes
    calls: dict[int, list[fx.Node]] = {}
    for node in program.nodes():
        if node.op == "call_module" and isinstance(program.submodule(node), (_ConvNd, nn.Linear)):
            calls.setdefault(id(program.submodule(node)), []).append(node)
    return tuple(
        Layer(str(nodes[0].target), program.submodule(nodes[0]), tuple(nodes))
        for nodes in calls.values()
    )


def unlayered(program: Program) -> Iterator[tuple[fx.Node, str]]:
    """Yields the convolutions and products by weights that are no torch.nn layers, and why not."""
    for node in program.nodes():
        if node.op == "call_function" and op_name(node) in _FUNCTIONS:
            yield node, f"a call of {op_name(node)} on tensors, not a torch.nn layer"


def obstacle(program: Program, layer: Layer) -> str:
    """Returns why other layers cannot simply replace this one; "" if they can.

    Example:
        >>> import gfx, torch
        >>> model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)))
        >>> program = gfx.trace(model, torch.zeros(1, 3, 8, 8))
        >>> [obstacle(program, layer).partition(";")[0] for layer in layers_of(program)]
        ['its Conv2d has a hook or a parametrization']
    """
    module, kind = layer.module, type(layer.module).__name__
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    if hasattr(module, "parametrizations") or any(hooks):
        kind = kind.removeprefix("Parametrized")
        return f"its {kind} has a hook or a parametrization; {folding_in(program, layer.path)}"
    if isinstance(module, MaskedLayer):
        return "a mask multiplies its weight; run fold_masks before"
    if not type(module).__module__.startswith("torch.nn."):
        return f"{kind} is a class of its own: what it computes is not known"
    for node in layer.calls:
        if len(node.args) + len(node.kwargs) != 1:
            return f"{node.name} calls it with more than its input"
        if penalised(program.module, node):
            return "a penalty names its weight; run fold_masks before"
    owners = _owners(program)
    for name, tensor in module.named_parameters():
        if len(owners[id(tensor)]) > 1:
            others = sorted(owners[id(tensor)] - {f"{layer.path}.{name}"})
            return f"its {name} is shared with {others[0]}"
    return ""


def _owners(program: Program) -> dict[int, set[str]]:
    """Names for each tensor the modules that own it, and the nodes that read it."""
    owners: dict[int, set[str]] = {}
    for path, module in program.module.named_modules():
        for name, tensor in module._parameters.items():
            if tensor is not None:
                owners.setdefault(id(tensor), set()).add(f"{path}.{name}" if path else name)
    for node in program.nodes():
        if node.op == "get_attr":
            try:
                owners.setdefault(id(program.tensor(str(node.target))), set()).add(node.name)
            except AttributeError:  # not a tensor
                continue
    return owners
