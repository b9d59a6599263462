"""Finds the norm and the activation that end a layer."""

from typing import Literal

from torch import fx, nn
from torch.nn.modules import activation, batchnorm, instancenorm, normalization

from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.stages import is_layer
from gfx.ir.stages.layer_calls import sort_of, tensors_in

__all__ = ["After", "convolutions", "ends", "feeds_product", "is_activation"]

After = Literal["activation", "layer"]

_NONE = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.MultiheadAttention)
_ACTIVATIONS = frozenset(
    "relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish softplus softsign tanh glu "
    "sigmoid hardtanh hardswish hardsigmoid hardshrink softshrink tanhshrink threshold "
    "logsigmoid".split()
)
_NORMS = frozenset(
    "batch_norm instance_norm group_norm layer_norm local_response_norm rms_norm normalize".split()
)
_NORM_LAYERS = (
    batchnorm._NormBase,
    instancenorm._InstanceNorm,
    normalization.GroupNorm,
    normalization.LayerNorm,
    normalization.LocalResponseNorm,
    normalization.RMSNorm,
)


def convolutions(program: Program) -> list[fx.Node]:
    """Lists the calls of convolutions in the order in which they run.

    Transposed ones count. Those whose result goes into a product of two activations (query, key
    and value of an attention) do not, nor does the total in GCC's table count them.
    """
    found = [node for node in program.nodes() if is_layer(program, node)]
    return [n for n in found if not _is_linear(program, n) and not feeds_product(program, n)]


def ends(program: Program, layer: fx.Node, after: After = "activation") -> fx.Node:
    """Returns the activation that follows a layer, else the norm, else the layer itself.

    Only nodes that use the layer's output alone are considered, up to the next layer: the
    activation after the sum of a residual block is not the layer's.
    """
    if after == "layer":
        return layer
    region, norm = {layer}, layer
    for node in program.nodes():
        operands = tensors_in(node)
        reads = [operand for operand in operands if operand in region]
        if not reads or node.op == "output" or is_layer(program, node):
            continue
        if not all(operand in region or operand.op == "get_attr" for operand in operands):
            continue
        if is_activation(program, node):
            return _gated(node, reads[0])
        if norm is layer and _is_norm(program, node):
            norm = node
        region.add(node)
    return norm


def _gated(node: fx.Node, read: fx.Node) -> fx.Node:
    """Returns x * f(x) where the activation is written that way, as swish is."""
    for user in node.users:
        if op_name(user) == "mul" and {*user.all_input_nodes} == {node, read}:
            return user
    return node


def is_activation(program: Program, node: fx.Node) -> bool:
    """Whether a node is a nonlinearity, element by element."""
    if node.op != "call_module":
        return op_name(node) in _ACTIVATIONS
    module = program.submodule(node)
    return type(module).__module__ == activation.__name__ and not isinstance(module, _NONE)


def _is_norm(program: Program, node: fx.Node) -> bool:
    if node.op != "call_module":
        return op_name(node) in _NORMS
    return isinstance(program.submodule(node), _NORM_LAYERS)


def _is_linear(program: Program, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(program.submodule(node), nn.Linear)
    return op_name(node) == "linear"


def feeds_product(program: Program, layer: fx.Node) -> bool:
    """Whether a layer's output goes into a product of two activations before any other layer."""
    region = {layer}
    for node in program.nodes():
        if not any(operand in region for operand in tensors_in(node)):
            continue
        sort = sort_of(program, node)
        if sort == "product":
            others = [n for n in tensors_in(node) if n.op != "get_attr"]
            return len(others) > 1
        alone = all(n in region or n.op == "get_attr" for n in tensors_in(node))
        if sort != "layer" and alone and not is_activation(program, node):
            region.add(node)
    return False
