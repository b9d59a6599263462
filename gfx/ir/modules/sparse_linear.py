"""Stores the weight of linear layers without its zeros, in torch's CSR or 2:4 layout."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CsrLinear", "SemiStructuredLinear"]


class CsrLinear(nn.Module):
    """A linear layer whose weight is kept in torch's CSR layout: zeros take no memory and no work.

    The parts are plain tensors, so that the layer is copied, cast and saved like any other, which
    torch does not do with a CSR tensor (2.13). `weight` puts them together. Training changes the
    values, not the places. torch.export cannot take it.

    Shapes: `values` (nnz,), a parameter; `crow_indices` (out + 1,) and `col_indices` (nnz,).

    Example:
        >>> linear = nn.Linear(4, 2)
        >>> with torch.no_grad():
        ...     _ = linear.weight[0].zero_()
        >>> sparse = CsrLinear.of(linear)
        >>> sparse, sparse.weight.layout
        (CsrLinear(4, 2, bias=True, nnz=4), torch.sparse_csr)
        >>> x = torch.ones(1, 4)
        >>> torch.allclose(sparse(x), linear(x))
        True
    """

    crow_indices: Tensor
    col_indices: Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool = True, nnz: int = 0):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.nnz = nnz
        self.values = nn.Parameter(torch.zeros(nnz))
        self.register_buffer("crow_indices", torch.zeros(out_features + 1, dtype=torch.int64))
        self.register_buffer("col_indices", torch.zeros(nnz, dtype=torch.int64))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @classmethod
    def of(cls, linear: nn.Linear) -> "CsrLinear":
        """Makes the layer that computes what a dense one does; they share the bias."""
        weight = linear.weight.detach()
        nonzero = weight != 0
        rows = F.pad(nonzero.sum(1).cumsum(0), (1, 0))
        has_bias = linear.bias is not None
        layer = cls(linear.in_features, linear.out_features, has_bias, int(rows[-1]))
        layer.values = nn.Parameter(weight[nonzero], requires_grad=linear.weight.requires_grad)
        layer.crow_indices, layer.col_indices = rows, nonzero.nonzero()[:, 1].contiguous()
        layer.bias = linear.bias
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that CSR tensors are in beta
            _ = layer.weight
        return layer.train(linear.training)

    @property
    def weight(self) -> Tensor:
        """The weight as one CSR tensor, (out, in)."""
        size = (self.out_features, self.in_features)
        parts = (self.crow_indices, self.col_indices, self.values)
        return torch.sparse_csr_tensor(*parts, size, check_invariants=False)

    def forward(self, input: Tensor) -> Tensor:  # as torch names it
        """Multiplies by the weight, in its own dtype: torch has no CSR product in bfloat16."""
        with torch.autocast(input.device.type, enabled=False):
            # of several dimensions and not in a row, torch would expand the weight, and cannot
            rows = input.to(self.values.dtype).contiguous()
            return F.linear(rows, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Writes the settings."""
        bias = self.bias is not None
        return f"{self.in_features}, {self.out_features}, bias={bias}, nnz={self.nnz}"


class SemiStructuredLinear(nn.Module):
    """A linear layer of whose weights at most two of each four neighbours are not zero.

    These two are kept, with two bits each that say where they are, as torch does for the sparse
    units of GPUs (compute capability 8.0 or above, half precision). Elsewhere the weight is
    unpacked at each call, which saves memory and no time.

    Shapes: `packed` (out, in / 2), `meta` (out, in / 16) of int16.

    Example:
        >>> linear = nn.Linear(64, 32, dtype=torch.bfloat16)
        >>> with torch.no_grad():
        ...     _ = linear.weight.view(32, 16, 4)[..., :2].zero_()
        >>> sparse = SemiStructuredLinear.of(linear)
        >>> x = torch.ones(1, 64, dtype=torch.bfloat16)
        >>> torch.equal(sparse(x), linear(x)), sparse.packed.shape
        (True, torch.Size([32, 32]))
    """

    packed: Tensor
    meta: Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.packed = nn.Parameter(torch.zeros(out_features, in_features // 2), requires_grad=False)
        meta = torch.zeros(out_features, in_features // 16, dtype=torch.int16)
        self.register_buffer("meta", meta)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @classmethod
    def of(cls, linear: nn.Linear) -> "SemiStructuredLinear":
        """Makes the layer that computes what a dense one does; they share the bias."""
        from torch.sparse import _semi_structured_conversions as conversions

        layer = cls(linear.in_features, linear.out_features, linear.bias is not None)
        pack: Any = conversions.sparse_semi_structured_from_dense_cutlass
        packed, layer.meta = pack(linear.weight.detach())
        layer.packed, layer.bias = nn.Parameter(packed, requires_grad=False), linear.bias
        return layer.train(linear.training)

    @property
    def weight(self) -> Tensor:
        """The weight: torch's semi-structured tensor on a GPU, elsewhere a dense one."""
        from torch.sparse import SparseSemiStructuredTensorCUTLASS
        from torch.sparse import _semi_structured_conversions as conversions

        if not self.packed.is_cuda:
            unpack: Any = conversions.sparse_semi_structured_to_dense_cutlass
            dense: Tensor = unpack(self.packed, self.meta)
            return dense
        shape = torch.Size((self.out_features, self.in_features))
        nothing = (None, None, None)  # no transposed copy: nothing is trained
        return SparseSemiStructuredTensorCUTLASS(shape, self.packed, self.meta, *nothing)

    def forward(self, input: Tensor) -> Tensor:
        """Multiplies by the weight."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
