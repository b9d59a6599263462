"""Describes the faults of a program, or what differs between two programs; runs neither."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gfx.ir.modules import ChannelMask, MaskedLayer
from gfx.ir.program import Program, has_effect

__all__ = ["differences", "faults"]


def faults(program: Program) -> Iterator[str]:
    """Yields what is wrong with a program's form.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> list(faults(program))
        []
        >>> conv = next(m for m in program.module.modules() if hasattr(m, "in_channels"))
        >>> conv.in_channels = 99
        >>> next(faults(program)).split(" says ")[1]
        'in_channels=99, but its weight has 100'
    """
    try:
        program.graph.lint()
    except (RuntimeError, AssertionError, ValueError, AttributeError) as error:
        yield f"the graph is not sound: {error}"
        return
    for node in program.nodes():
        if not node.users and not has_effect(node):
            yield f"node {node.name} is dead: nothing uses it; call program.recompile()"
    if program.module.code != program.graph.python_code("self").src:
        yield "the code is not the graph's; call program.recompile() after editing the graph"
    yield from (
        f"submodule {path} is called by no node; call program.recompile()"
        for path in _unused(program)
    )
    for path, module in program.module.named_modules():
        for attribute, said, shown in _claims(module):
            if said != shown:
                yield f"module {path} says {attribute}={said}, but its weight has {shown}"
        if isinstance(module, ChannelMask) and module.size != module.mask.numel():
            yield f"module {path} says size={module.size}, but its mask has {module.mask.numel()}"
        if isinstance(module, MaskedLayer) and module.mask.shape != module.weight.shape:
            mask, weight = tuple(module.mask.shape), tuple(module.weight.shape)
            yield f"module {path} has a mask of shape {mask}, but a weight of shape {weight}"


def differences(before: Program, after: Program) -> Iterator[str]:
    """Yields what differs between two programs: graph, modules, the bytes of a tensor.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> other = program.copy()
        >>> list(differences(program, other))
        []
        >>> name, weight = next(iter(other.module.named_parameters()))
        >>> _ = weight.data.zero_()
        >>> next(differences(program, other)) == f"the values of {name} differ"
        True
    """
    yield from _graphs(before, after)
    yield from _modules(before.module, after.module)
    yield from _tensors(before.module, after.module)


def _graphs(before: Program, after: Program) -> Iterator[str]:
    olds, news = ([_line(n) for n in p.nodes()] for p in (before, after))
    for old, new in zip(olds, news, strict=False):
        if old != new:
            yield f"the graph has `{new}` where it had `{old}`"
            return
    if len(olds) != len(news):
        yield f"the graph has {len(news)} nodes where it had {len(olds)}"


def _line(node: torch.fx.Node) -> str:
    target = node.target if isinstance(node.target, str) else torch.typename(node.target)
    return f"{node.name} = {node.op} {target} {node.args} {node.kwargs}"


def _modules(before: nn.Module, after: nn.Module) -> Iterator[str]:
    olds, news = dict(before.named_modules()), dict(after.named_modules())
    for path in sorted(olds.keys() ^ news.keys()):
        yield f"submodule {path} was {'removed' if path in olds else 'added'}"
    for path in sorted(olds.keys() & news.keys()):
        old, new = _attributes(olds[path]), _attributes(news[path])
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"{path or 'the program'}.{key} is {new.get(key)!r}, it was {old.get(key)!r}"


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Returns what a module is and how it is set, in plain data; never a computed weight."""
    said = {"kind": type(module).__qualname__, "training": module.training}
    if isinstance(module, torch.fx.GraphModule):
        return said  # its other attributes are the generated code, compared as a graph
    return said | {k: v for k, v in vars(module).items() if not k.startswith("_") and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def _tensors(before: nn.Module, after: nn.Module) -> Iterator[str]:
    olds, news = _named(before), _named(after)
    for name in sorted(olds.keys() ^ news.keys()):
        yield f"tensor {name} was {'removed' if name in olds else 'added'}"
    for name in sorted(olds.keys() & news.keys()):
        old, new = olds[name], news[name]
        if _describe(old) != _describe(new):
            yield f"{name} is {_describe(new)}, it was {_describe(old)}"
        elif not _same_bytes(old, new):
            yield f"the values of {name} differ"


def _named(module: nn.Module) -> dict[str, torch.Tensor]:
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.device.type == "meta":
        return True
    if _address(a) == _address(b) and a.stride() == b.stride():
        return True
    # bytes, not values: NaN equals itself, and 0.0 is not -0.0
    first, second = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(first, second)


def _address(tensor: torch.Tensor) -> int:
    # `tensor.data_ptr()` counts as a write and would give a copy on write memory of its own
    address_of = getattr(torch._C, "_data_address", torch.Tensor.data_ptr)
    return int(address_of(tensor))


def _describe(tensor: torch.Tensor) -> str:
    grad = "requires grad" if tensor.requires_grad else "no grad"
    shape = "x".join(map(str, tensor.shape))
    row_major = tensor.is_contiguous()
    order = "" if row_major else f", strides {'x'.join(map(str, tensor.stride()))}"
    return f"{type(tensor).__name__} {shape} {tensor.dtype} on {tensor.device}, {grad}{order}"


def _unused(program: Program) -> list[str]:
    """Returns the paths of submodules that no node reaches."""
    called = {str(n.target) for n in program.nodes() if n.op == "call_module"}
    read = {str(n.target) for n in program.nodes() if n.op == "get_attr"}
    used = {""}
    for path in called | read:
        parts = path.split(".")
        used |= {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
    paths = (path for path, _ in program.module.named_modules())
    return [p for p in paths if p not in used and not _below(p, called | read)]


def _below(path: str, owners: set[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:i]) in owners for i in range(1, len(parts)))


def _claims(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Yields (attribute, what the module says, what its tensors show)."""
    stored: Any = module._parameters
    weight = stored.get("weight")
    if isinstance(module, nn.modules.conv._ConvNd) and weight is not None:
        wide, narrow = ("in", "out") if module.transposed else ("out", "in")
        yield f"{wide}_channels", getattr(module, f"{wide}_channels"), weight.shape[0]
        narrow_size = weight.shape[1] * module.groups
        yield f"{narrow}_channels", getattr(module, f"{narrow}_channels"), narrow_size
    elif isinstance(module, nn.Linear) and weight is not None:
        yield "out_features", module.out_features, weight.shape[0]
        yield "in_features", module.in_features, weight.shape[1]
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        for tensor in (weight, module.running_mean):
            if tensor is not None:
                yield "num_features", module.num_features, tensor.shape[0]
    elif isinstance(module, nn.GroupNorm) and weight is not None:
        yield "num_channels", module.num_channels, weight.shape[0]
    elif isinstance(module, nn.Embedding) and weight is not None:
        yield "embedding_dim", module.embedding_dim, weight.shape[1]
