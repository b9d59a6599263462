"""Infers the shape and dtype of every node, without running the arithmetic."""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils.weak import WeakIdKeyDictionary

from gfx.ir.modules import is_own
from gfx.ir.program import Program
from gfx.ir.shapes.fake_runner import CallContext, FakeRunner, leaf_results
from gfx.ir.torch_logging import quiet_torch

__all__ = ["forget_shapes", "note_shapes", "propagate", "rerun", "shapes_hold"]

# program → the settings that its nodes' values were inferred from; entries die with the program
_SETTINGS: MutableMapping[Program, list[Any]] = WeakIdKeyDictionary()

# what every module has in dictionaries and sets
_COMMON = frozenset(n for n, v in vars(nn.Module()).items() if isinstance(v, (dict, set)))


def propagate(program: Program) -> None:
    """Writes the value of every node to `node.meta["val"]`.

    Tensors are fake (shape, dtype and device, no storage), integers and tuples are themselves.
    The example inputs decide the shapes. The program's tensors are not touched. Tensors on the
    meta device count as being where the others are, or on the CPU.

    An opaque leaf that cannot run on fake tensors runs once for real, as a copy, on zeros.
    Values that are there already stay, if nothing they follow from has changed since.

    Raises: InputError if a node does not run on the example inputs; it names the node.

    Example:
        >>> from torch import fx, nn
        >>> program = Program(fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 3))),
        ...                   (torch.empty(1, 3, 1024, 1024),))
        >>> propagate(program)
        >>> [tuple(node.meta["val"].shape) for node in program.nodes() if node.op != "output"]
        [(1, 3, 1024, 1024), (1, 8, 1022, 1022)]
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    if shapes_hold(program):
        return
    with quiet_torch():
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        inputs = program.example_inputs
        known = leaf_results(program.provenance)
        FakeRunner(program.module, inputs, mode, known=known).run(*inputs)
    note_shapes(program)


def note_shapes(program: Program) -> None:
    """Records that the values on the nodes, if each has one, are of the program as it is."""
    _SETTINGS.pop(program, None)
    if all("val" in node.meta for node in program.graph.nodes):
        _SETTINGS[program] = _settings(program)


def forget_shapes(program: Program) -> None:
    """Takes the values off the nodes."""
    _SETTINGS.pop(program, None)
    for node in program.graph.nodes:
        node.meta.pop("val", None)


def shapes_hold(program: Program) -> bool:
    """Whether the values on the nodes are those of the program as it is."""
    noted = _SETTINGS.get(program)
    if noted is None or not all("val" in node.meta for node in program.graph.nodes):
        return False
    return bool(noted == _settings(program))


def rerun(program: Program, node: fx.Node, call_context: CallContext) -> Any:
    """Runs one node of a propagated program again, on the values its inputs had.

    `call_context` makes a context that is entered around the call, such as a dispatch mode.
    If a leaf refuses fake tensors it is called again with a new context: the last one counts.

    Raises: InputError if the node does not run.
    """
    runner = FakeRunner(program.module, program.example_inputs, _mode(program), call_context)
    with torch.no_grad():
        return runner.value(node, lambda source: source.meta["val"])


def _settings(program: Program) -> list[Any]:
    """Lists all that the shapes of a program follow from; two lists are equal if they are."""
    state: list[Any] = [id(program.module), [id(x) for x in program.example_inputs]]
    for node in program.graph.nodes:
        state.append((node, node.op, node.target, node.args, node.kwargs))
        if node.op == "call_module":
            module = program.submodule(node)
            state += [module, _attributes(module)]
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    state.append((tensor.shape, tensor.dtype, tensor.device))
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            value = getattr(program.module.get_submodule(owner), name)
            plain = isinstance(value, torch.Tensor)
            state.append((value.shape, value.dtype, value.device) if plain else id(value))
    return state


def _attributes(module: nn.Module) -> Any:
    """Lists the attributes of a layer of torch or gfx that are numbers, texts and the like."""
    own = is_own(module) or type(module).__module__.startswith("torch.nn.modules")
    if not own or module._modules:
        return object()  # the settings of another module do not determine its shapes: never equal
    return {
        name: [*value] if type(value) is list else value
        for name, value in vars(module).items()
        # most are the hooks of every module, which are slow to recognise by their type
        if name not in _COMMON and not isinstance(value, (dict, set))
    }


def _mode(program: Program) -> Any:
    """Returns the mode that the values on the graph live in."""
    from torch._subclasses.fake_tensor import FakeTensor

    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    raise AssertionError("rerun needs a propagated program")
