"""Writes tensors as one table (what each path holds) and one set of plain arrays (the data).

Paths that share an object share an entry; objects that overlap in memory share one flat array, so
what was tied stays tied. Strides are kept, since kernels of other layouts round differently.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gfx.errors import ArchiveError
from gfx.io.archive.graph_json import dtype_from

__all__ = ["read_tensors", "tensors_of", "write_tensors"]


def tensors_of(module: nn.Module) -> Iterable[tuple[str, str, torch.Tensor]]:
    """Lists (path, kind, tensor) of parameters, buffers and plain tensor attributes, in order.

    Kinds are "parameter", "buffer", "transient" (a buffer outside the state dict) and "constant".
    Shared modules are listed once, shared tensors under every path.
    """
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, tensor in part._parameters.items():
            if tensor is not None:
                yield dot + name, "parameter", tensor
        for name, buffer in part._buffers.items():
            if buffer is not None:
                transient = name in part._non_persistent_buffers_set
                yield dot + name, "transient" if transient else "buffer", buffer
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                yield dot + name, "constant", value


def write_tensors(module: nn.Module) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Returns the table of a module's tensors and the arrays that hold their data.

    Raises: ArchiveError if a tensor is not a plain dense one with data.
    """
    first: dict[int, str] = {}
    table: dict[str, Any] = {}
    unique: dict[str, torch.Tensor] = {}
    for path, kind, tensor in tensors_of(module):
        _check_plain(tensor, path)
        known = first.setdefault(id(tensor), path)
        table[path] = {"kind": kind} | ({"same": known} if known != path else {})
        if known == path:
            unique[path] = tensor
    arrays: dict[str, torch.Tensor] = {}
    for group in _overlapping(unique):
        _write_group(group, unique, table, arrays)
    return table, arrays


def read_tensors(
    table: dict[str, Any], arrays: dict[str, torch.Tensor]
) -> dict[str, tuple[str, torch.Tensor]]:
    """Returns path → (kind, tensor) of what `write_tensors` wrote.

    Raises: ArchiveError if table and arrays do not match.
    """
    # clone: a fresh allocation is aligned as torch aligns, and math libraries round by alignment
    owned = {key: array.clone() for key, array in arrays.items()}
    result: dict[str, tuple[str, torch.Tensor]] = {}
    for path, entry in table.items():
        if "same" in entry:
            result[path] = (entry["kind"], result[entry["same"]][1])
            continue
        if entry["data"] not in owned:
            raise ArchiveError(f"the weights do not match the graph: {entry['data']} is missing")
        result[path] = (entry["kind"], _view(owned[entry["data"]], entry, path))
    surplus = owned.keys() - {entry.get("data") for entry in table.values()}
    if surplus:
        raise ArchiveError(f"the weights do not match the graph: {sorted(surplus)[0]} is not in it")
    return result


def _write_group(
    group: list[str],
    tensors: dict[str, torch.Tensor],
    table: dict[str, Any],
    arrays: dict[str, torch.Tensor],
) -> None:
    """Writes tensors that overlap in memory (mostly: a single one) as one array."""
    key = group[0]
    # not is_contiguous: it overlooks the strides of dimensions of size 1, and kernels do not
    alone = len(group) == 1 and tensors[key].stride() == _row_major(tensors[key])
    start = min(tensors[path].storage_offset() for path in group)
    span = max(tensors[path].storage_offset() + _span(tensors[path]) for path in group) - start
    flat = torch.zeros(0 if alone else span, dtype=tensors[key].dtype)
    for path in group:
        tensor = tensors[path].detach()
        if tensor.dtype != flat.dtype:
            raise ArchiveError(f"{path} and {key} share memory with two dtypes; clone one of them")
        entry = {
            "data": key,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "requires_grad": tensors[path].requires_grad,
        }
        if not alone:
            offset = tensor.storage_offset() - start
            entry |= {"stride": list(tensor.stride()), "offset": offset}
            _first_copies(flat.as_strided(tensor.shape, tensor.stride(), offset)).copy_(
                _first_copies(tensor)
            )
        table[path] |= entry
    array = tensors[key].detach() if alone else flat
    arrays[key] = _storable(array.cpu().contiguous())


def _view(array: torch.Tensor, entry: dict[str, Any], path: str) -> torch.Tensor:
    """Reads one tensor out of an array."""
    dtype = dtype_from(entry["dtype"])
    shape = [int(size) for size in entry["shape"]]
    if dtype.is_complex and array.dtype == torch.uint8:
        array = array.view(dtype)
        array = array if "stride" in entry else array.reshape(shape)
    if "stride" in entry and array.dtype == dtype:
        array = array.as_strided(shape, entry["stride"], entry["offset"])
    if list(array.shape) != shape or array.dtype != dtype:
        raise ArchiveError(
            f"the weights do not match the graph: they hold {path} as {array.dtype} "
            f"{list(array.shape)}, the graph needs {dtype} {shape}"
        )
    if entry["kind"] == "parameter":
        return nn.Parameter(array, requires_grad=bool(entry["requires_grad"]))
    return array.requires_grad_(bool(entry["requires_grad"]))


def _overlapping(tensors: dict[str, torch.Tensor]) -> list[list[str]]:
    """Groups paths whose tensors overlap in memory, in the order of their first path."""
    groups: list[list[str]] = []
    by_storage: dict[int, list[str]] = {}
    for path, tensor in tensors.items():
        storage = tensor.untyped_storage()
        owner = by_storage.setdefault(storage.data_ptr() if storage.nbytes() else id(tensor), [])
        owner.append(path)
    for paths in by_storage.values():
        ranges = sorted((_bytes(tensors[path]), path) for path in paths)
        merged: list[tuple[int, list[str]]] = []
        for (begin, end), path in ranges:
            if merged and begin < merged[-1][0]:
                merged[-1] = (max(end, merged[-1][0]), [*merged[-1][1], path])
            else:
                merged.append((end, [path]))
        groups += [group for _, group in merged]
    order = {path: index for index, path in enumerate(tensors)}
    groups = [sorted(group, key=order.__getitem__) for group in groups]
    return sorted(groups, key=lambda group: order[group[0]])


def _bytes(tensor: torch.Tensor) -> tuple[int, int]:
    begin = int(tensor.storage_offset()) * tensor.element_size()
    return begin, begin + _span(tensor) * tensor.element_size()


def _span(tensor: torch.Tensor) -> int:
    """Counts the elements from the first one to the last one in memory."""
    if tensor.numel() == 0:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))


def _row_major(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tuple(int(step) for step in torch.empty(tensor.shape, device="meta").stride())


def _first_copies(tensor: torch.Tensor) -> torch.Tensor:
    """Narrows expanded (stride 0) dimensions to one element, so that each is written once."""
    pairs = itertools.zip_longest(tensor.shape, tensor.stride())
    shape = [1 if stride == 0 and n > 1 else n for n, stride in pairs]
    return tensor.as_strided(shape, tensor.stride(), tensor.storage_offset())


def _storable(array: torch.Tensor) -> torch.Tensor:
    """Returns the array, as bytes if safetensors has no name for its dtype."""
    return array.reshape(-1).view(torch.uint8) if array.dtype.is_complex else array


def _check_plain(tensor: torch.Tensor, path: str) -> None:
    plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout == torch.strided
    if not plain or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        raise ArchiveError(
            f"{path} is a {type(tensor).__name__} ({tensor.layout}, {tensor.dtype}); a .gfx file "
            "holds plain dense tensors only; save as .pt"
        )
    if tensor.device.type == "meta":
        raise ArchiveError(f"{path} has no data (device meta); load weights before saving")
