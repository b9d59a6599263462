"""Traces a model by torch.export, raised to the same normal form (the second front end).

It takes what symbolic trace cannot: control flow on shapes and flags, `len`, iteration, einops.
Sizes stay variable where the model allows; rules say for which of them the graph stands.
"""

import contextlib
import io
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.leaf_ops import leaf_paths, leaves_as_operations
from gfx.frontend.lowering import lower
from gfx.frontend.private_copy import untouched
from gfx.frontend.refusal import Refusal, blamed_module, first_line
from gfx.frontend.regions import refused_contexts
from gfx.frontend.size_conditions import size_rules
from gfx.frontend.size_guards import Decisions, decisions
from gfx.frontend.transformer_forwards import plain_forwards
from gfx.ir.random_state import ONE_DRAW, drawn_in_python
from gfx.ir.torch_logging import quiet_torch
from gfx.objects.call_form import set_call_form
from gfx.objects.object_form import put_together
from gfx.objects.take_apart import leaves, take_apart

__all__ = ["attempts", "exported_graph", "open_sizes"]


@dataclass(frozen=True)
class ExportCall:
    """One way to call torch.export."""

    arguments: Arguments
    open_sizes: Literal["all", "batch", "none"]
    quick: bool = False  # see open_sizes, rule 1


def attempts(arguments: Arguments, opaque: Collection[str]) -> Iterator[ExportCall]:
    """Yields ways to export a model, the one with the most general result first.

    After a quick one comes the same with proofs; what the first exported need not be tried so.
    """
    tensors = [t for t in leaves(arguments.values()) if isinstance(t, torch.Tensor)]
    if not opaque:  # the results of opaque leaves are known for these sizes only
        several = arguments
        if all(t.shape[0] == 1 for t in tensors if t.dim()):
            # torch.export takes a size of 1 for a constant
            several = arguments.map(lambda t: t.repeat_interleave(2, 0) if t.dim() else t)
            yield ExportCall(several, "all", quick=True)
            yield ExportCall(several, "all")
        yield ExportCall(arguments, "all", quick=True)
        yield ExportCall(arguments, "all")
        yield ExportCall(several, "batch")
    yield ExportCall(arguments, "none")


def exported_graph(
    model: nn.Module,
    attempt: ExportCall,
    opaque: Collection[str],
    recorded: Mapping[str, list[Any]],
) -> tuple[fx.Graph, list[str], tuple[str, ...]]:
    """Exports a model and returns its graph, notes for the user, and rules about sizes.

    `recorded` holds the results that opaque leaves returned when the model ran.
    The model gains the constants that the graph refers to, and is else left unchanged.

    Raises: Refusal if it cannot be exported.
    """
    try:
        with untouched(model), drawn_in_python() as drawn, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to the model's author, about our copy
            paths = leaf_paths(model, opaque)
            with (
                plain_forwards(model),
                leaves_as_operations(paths, recorded) as calls,
                refused_contexts(),
                decisions(_Entry.forward.__code__) as asked,
            ):
                program = _export(model, attempt, asked)
            graph, constants = lower(program, model, attempt.arguments, calls)
            set_call_form(graph, attempt.arguments.forms(), attempt.arguments.returned.form)
    except Refusal as refusal:
        path = refusal.path or blamed_module(refusal, model)
        raise Refusal(refusal.reason, path) from refusal
    except Exception as error:  # user code on fake tensors: anything may be raised
        raise Refusal(first_line(error), blamed_module(error, model)) from error
    vars(model).update(constants)
    rules = size_rules(asked, attempt.arguments, _input_shapes(program))
    return graph, [ONE_DRAW] if drawn[0] else [], rules


def _export(
    model: nn.Module, attempt: ExportCall, asked: Decisions
) -> torch.export.ExportedProgram:
    values = leaves(attempt.arguments.values())
    # tensors of their own: torch.export marks on them which sizes are open, also when it fails
    tensors = [
        leaf.detach().requires_grad_(leaf.requires_grad)
        for leaf in values
        if isinstance(leaf, torch.Tensor)
    ]
    most = 1 if attempt.open_sizes == "batch" else None
    shapes = [
        {i: torch.export.Dim.AUTO for i, size in enumerate(t.shape[:most]) if size != 1}
        for t in tensors
    ]
    # torch prints the graph it had so far when a value decides the control flow
    with quiet_torch(), contextlib.redirect_stderr(io.StringIO()), open_sizes(quick=attempt.quick):
        return torch.export.export(
            _Entry(model, attempt.arguments, asked),
            (tensors,),
            dynamic_shapes=None if attempt.open_sizes == "none" else (shapes,),
            strict=False,
        )


@contextlib.contextmanager
def open_sizes(*, quick: bool) -> Iterator[None]:
    """Sets what torch takes from its configuration for sizes that are open.

    1. A quick attempt takes a view of open sizes without a proof for each of its dimensions.
       Attention in windows of an image of open size costs minutes otherwise: every `view` asks
       several times whether one polynomial of the sizes divides another.
    2. Results on fake tensors are not kept: to look one up, torch writes out the formulas of all
       its sizes, which takes longer than to compute it again.
    """
    import torch._dynamo.config
    from torch.fx.experimental import _config

    sizes: Any = _config
    kept: Any = torch._dynamo.config
    with contextlib.ExitStack() as stack:
        if quick and hasattr(sizes, "backed_size_oblivious"):  # torch 2.6 has it not
            stack.enter_context(sizes.patch(backed_size_oblivious=True))
        if hasattr(kept, "fake_tensor_cache_enabled"):
            stack.enter_context(kept.patch(fake_tensor_cache_enabled=False))
        yield


class _Entry(nn.Module):
    """Calls the model from a flat list of tensors; everything else is fixed."""

    def __init__(self, model: nn.Module, arguments: Arguments, asked: Decisions) -> None:
        super().__init__()
        self.model = model
        self.asked = asked
        self.training = model.training
        self.arguments = arguments
        plain, self.form = take_apart(arguments.values())
        values, self.spec = pytree.tree_flatten(plain)
        self.leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in values]
        self.tensors = [isinstance(leaf, torch.Tensor) for leaf in values]

    def forward(self, tensors: list[torch.Tensor]) -> Any:
        self.asked.enter(tensors)
        given = iter(tensors)
        pairs = zip(self.leaves, self.tensors, strict=True)
        found = [next(given) if is_tensor else leaf for leaf, is_tensor in pairs]
        values = pytree.tree_unflatten(found, self.spec)
        values = values if self.form is None else put_together(values, self.form)
        return self.arguments.call(self.model, values)


def _input_shapes(program: torch.export.ExportedProgram) -> list[Any]:
    signature = program.graph_signature
    inputs = [n for n in program.graph.nodes if n.name in signature.user_inputs]
    return [node.meta["val"].shape for node in inputs]
