"""Lowers an exported program to the normal form: modules, get_attr tensors, torch functions."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from gfx.frontend.aten_ops import is_check, respell
from gfx.frontend.inputs.bind import Arguments, has_tensor
from gfx.frontend.leaf_ops import Calls, Slot
from gfx.frontend.refusal import Refusal
from gfx.frontend.regions import mark_region
from gfx.frontend.traced_values import unpack
from gfx.objects.take_apart import take_apart

__all__ = ["lower"]

_PREFIX = "model."  # the model is a submodule of what was exported
_WRITES = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)


def lower(
    program: torch.export.ExportedProgram, model: nn.Module, arguments: Arguments, calls: Calls
) -> tuple[fx.Graph, dict[str, torch.Tensor]]:
    """Builds the normal-form graph of an exported program, and the constants it refers to.

    1. Leaf calls become call_module nodes on the module's own path.
    2. Parameters, buffers and constants become get_attr nodes on their own paths, of several on
       the first, as in symbolic trace; a constant that has none gets a name.
    3. Other operations are spelled as a user of torch would spell them; guards are dropped.
    4. An in-place layer's result takes the place of what it wrote to.

    Raises: Refusal if the program holds an operation with a body of its own, such as `cond`.
    """
    lowering = _Lowering(program, model, calls)
    return lowering.run(arguments), lowering.constants


class _Lowering:
    """Holds the new graph, and what each node of the old one became."""

    def __init__(
        self, program: torch.export.ExportedProgram, model: nn.Module, calls: Calls
    ) -> None:
        self.program = program
        self.model = model
        self.calls = calls
        self.graph = fx.Graph()
        self.env: dict[fx.Node, Any] = {}
        self.constants: dict[str, torch.Tensor] = {}
        held = (*model.named_parameters(), *model.named_buffers())
        self.paths = {id(tensor): path for path, tensor in held}  # the first of each
        self.tensors: dict[fx.Node, str] = {}  # old placeholders of parameters and the like: path

    def run(self, arguments: Arguments) -> fx.Graph:
        given = iter(list(self.inputs(arguments)))
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                self.env[node] = next(given)
            else:
                self.tensors[node] = self.path(str(spec.target))
        self.body(self.program.graph_module)
        return self.graph

    def inputs(self, arguments: Arguments) -> Iterator[fx.Node]:
        """Makes the inputs of the graph and yields the node of every tensor in them."""
        for item in arguments.items:
            if not item.is_input:
                continue
            proxy = fx.Proxy(self.graph.placeholder(item.name))
            if has_tensor(item.value):
                leaves = pytree.tree_leaves(unpack(proxy, take_apart(item.value, named=False)[0]))
                yield from (leaf.node for leaf in leaves if isinstance(leaf, fx.Proxy))

    def path(self, target: str) -> str:
        """Returns the path on the model of a lifted tensor; names constants (rule 2)."""
        own = target.removeprefix(_PREFIX)
        held = _held(self.model, own)
        if held is not None:
            return self.paths.get(id(held), own)
        name = f"constant_{target.rpartition('_')[2]}"
        while hasattr(self.model, name):
            name += "_"
        self.constants[name] = self.program.constants[target].detach()
        return name

    def body(self, module: fx.GraphModule) -> None:
        """Emits the nodes of an exported graph; the output ends the new one too."""
        for node in module.graph.nodes:
            if node.op == "output":
                self.output(node)
            elif node.op != "placeholder":
                self.env[node] = self.emit(node, module)

    def emit(self, node: fx.Node, module: fx.GraphModule) -> Any:
        """Emits one node and returns its value in the new graph."""
        if node.op == "get_attr":
            return getattr(module, str(node.target))
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self.inline(node)
        if is_check(node.target):
            return None
        args, kwargs = self.value(node.args), self.value(node.kwargs)
        if str(node.target) == "gfx_frontend.leaf.default":
            return self.leaf(*args)
        if str(node.target) == "gfx_frontend.leaf_.default":
            return self.leaf_inplace(node, *args)
        if node.target is operator.getitem and not isinstance(args[0], fx.Node):
            return args[0][args[1]]
        return respell(self.graph, node.target, args, kwargs)

    def value(self, argument: Any) -> Any:
        """Returns an argument of an old node in terms of the new graph."""
        return fx.node.map_arg(argument, self.look_up)

    def look_up(self, node: fx.Node) -> Any:
        """Returns the new value of an old node; tensors appear where they are first used."""
        if node not in self.env:
            self.env[node] = self.graph.get_attr(self.tensors[node])
        return self.env[node]

    def leaf(self, tensors: list[fx.Node], sizes: list[Any], key: str) -> list[Any]:
        """Emits a call of a leaf; returns its tensors in order (rule 1)."""
        call = self.calls.by_key[key]
        args, kwargs = call.filled(tensors, sizes)
        node = self.graph.call_module(call.path, args, kwargs)
        leaves = pytree.tree_leaves(_places(fx.Proxy(node), call.result))
        return [leaf.node for leaf in leaves if isinstance(leaf, fx.Proxy)]

    def leaf_inplace(self, old: fx.Node, tensor: fx.Node, key: str) -> None:
        """Emits a call of an in-place leaf (rule 4)."""
        call = self.calls.by_key[key]
        args, kwargs = call.filled([tensor], [])
        result = self.graph.call_module(call.path, args, kwargs)
        self.env.update({n: result for n, new in self.env.items() if new is tensor})

    def inline(self, node: fx.Node) -> Any:
        """Emits the body of a region such as `with torch.no_grad()` in place of its call."""
        name = str(node.target)
        args = self.value(node.args)
        at = next((i for i, a in enumerate(args) if isinstance(a, fx.GraphModule)), None)
        if at is None or not name.startswith("wrap_with"):
            raise Refusal(f"torch.export kept the operation {name}, which has a body of its own")
        if "autocast" in name:
            raise Refusal("forward enters torch.autocast, whose effect depends on its caller")
        inner = args[at].graph
        known = set(self.graph.nodes)
        holes = [n for n in inner.nodes if n.op == "placeholder"]
        self.env.update(zip(holes, args[at + 1 :], strict=True))
        for step in inner.nodes:
            if step.op == "output":
                if "set_grad" in name and not args[0]:
                    for new in set(self.graph.nodes) - known:
                        mark_region(new)
                return self.value(step.args[0])
            if step.op != "placeholder":
                self.env[step] = self.emit(step, args[at])
        raise AssertionError("a graph without an output")

    def output(self, node: fx.Node) -> None:
        """Emits the output in the structure that the model returns."""
        results: list[Any] = []
        targets = {spec: n for n, spec in self.tensors.items()}
        values = self.value(node.args[0])
        for spec, value in zip(self.program.graph_signature.output_specs, values, strict=True):
            if spec.kind is OutputKind.USER_OUTPUT:
                results.append(value)
            elif spec.kind in _WRITES:
                written = str(spec.target).removeprefix(_PREFIX)
                if written not in targets:
                    raise Refusal("forward writes to its inputs")
                into = self.look_up(targets[written])
                self.graph.call_method("copy_", (into, value))
        out_spec = self.program.call_spec.out_spec
        if out_spec is None:
            raise AssertionError("torch.export always notes the structure of the output")
        self.graph.output(_plain(pytree.tree_unflatten(results, out_spec)))


def _held(model: nn.Module, path: str) -> torch.Tensor | None:
    """Returns the tensor that a model has at a path; None if there is none."""
    owner, _, name = path.rpartition(".")
    try:
        found = getattr(model.get_submodule(owner), name, None)
    except AttributeError:
        return None
    return found if isinstance(found, torch.Tensor) else None


def _places(proxy: Any, template: Any) -> Any:
    """Replaces the Slots of a template by items of a proxy."""
    if isinstance(template, Slot):
        return proxy
    if isinstance(template, dict):
        return {k: _places(proxy[k], v) for k, v in template.items() if _has_slot(v)}
    if isinstance(template, list | tuple):
        return [_places(proxy[i], v) for i, v in enumerate(template) if _has_slot(v)]
    return template


def _has_slot(template: Any) -> bool:
    return any(isinstance(leaf, Slot) for leaf in pytree.tree_leaves(template))


def _plain(value: Any) -> Any:
    """Turns subclasses of dictionaries, such as the outputs of some libraries, into plain ones."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_plain(item) for item in value)
    return [_plain(item) for item in value] if isinstance(value, list) else value
