"""Judges channel pruning without knowing how it works: removing must equal zeroing what reads.

Told only which indices of which tensors are gone, the oracle runs the original model three times,
on its own trace:

1. Plain, remembering what every contraction (convolution, linear, embedding, matmul) returned.
2. Each contraction returns what it did, but NaN where all that it sums is gone. NaN then runs
   through everything between contractions, whatever that is, and where it arrives at the next
   contraction is what that contraction must no longer read.
3. The contractions read zero in those places. This is what the pruned model must return.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call

__all__ = ["Kept", "alike", "assert_equal_outputs", "deviation", "flat", "zeroed"]

Kept = Mapping[str, Mapping[int, Sequence[int]]]  # tensor path -> dimension -> indices that stay

MODULES = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding, nn.RMSNorm)
WITH_BIAS = {f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)} | {"linear"}
PRODUCTS = {"matmul", "mm", "bmm", "einsum"}
SUMS = {"sum", "mean", "norm", "rms_norm", "linalg_vector_norm"}
ATTENTION = "scaled_dot_product_attention"
DISTANCES = "cdist"  # of vectors, which are gone when all their coordinates are
# of weights alone these are numbers of the model, which no removal may change
STATISTICS = SUMS | {
    "var",
    "std",
    "vector_norm",
    "linalg_vector_norm",
    "dot",
    "normalize",
    "softmax",
}


def zeroed(model: nn.Module, inputs: Sequence[Any], kept: Kept) -> Any:
    """Returns the outputs of the model when nothing that is gone is read."""
    traced = model if isinstance(model, fx.GraphModule) else fx.symbolic_trace(model)
    record = _Record(traced)
    noise = torch.get_rng_state()  # the same in each run
    with torch.no_grad():
        record.run(*inputs)
        probe = _Probe(traced, record.outputs, kept)
        torch.set_rng_state(noise)
        outputs = probe.run(*inputs)
        torch.set_rng_state(noise)
        if flat(outputs).isnan().any():
            raise AssertionError("the model's own outputs have lost channels")
        return _Masked(traced, probe.masks).run(*inputs)


def deviation(expected: Any, got: Any) -> float:
    """Largest absolute difference, relative to the largest absolute expected value."""
    expected, got = flat(expected), flat(got)
    if expected.shape != got.shape:
        return float("inf")
    return float((expected - got).abs().max() / expected.abs().max().clamp_min(1e-300))


# of the largest value: what two ways to add the same numbers may differ by
TOLERANCES = {torch.float64: 1e-9, torch.complex128: 1e-9, torch.float32: 1e-5}


def alike(expected: Tensor, got: Tensor) -> bool:
    """Whether two results are equal, to the tolerance of their type.

    Kernels choose by memory layout, so results of separate calls may differ in their last bits.
    """
    if (expected.shape, expected.dtype) != (got.shape, got.dtype):
        return False
    if not (expected.is_floating_point() or expected.is_complex()):
        return torch.equal(expected, got)
    finite = expected.detach()[expected.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(
        expected, got, rtol=0.0, atol=scale * TOLERANCES.get(expected.dtype, 1e-2)
    )


def assert_equal_outputs(expected: Any, got: Any, tolerance: float = 1e-9) -> None:
    """Fails with the deviation when two outputs differ."""
    error = deviation(expected, got)
    assert error <= tolerance, f"outputs deviate by {error:.2e} of the largest, over {tolerance}"


def flat(outputs: Any) -> Tensor:
    """Joins the tensors of an output, however nested, into one vector."""
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return torch.cat([t.detach().flatten() for t in leaves if isinstance(t, Tensor)])


def _operands(node: fx.Node, args: Sequence[Any]) -> list[int]:
    """Positions of the arguments that the node contracts; empty for any other node."""
    name = _name(node)
    if node.op == "call_module":
        return [0]
    if name in WITH_BIAS:
        return [0, 1]
    if name in SUMS:
        return [0]
    if name in PRODUCTS or name in (ATTENTION, DISTANCES):
        return [i for i, a in enumerate(args) if isinstance(a, Tensor)]
    return []


def _constant(graph: fx.Graph) -> set[fx.Node]:
    """What follows from the model's own tensors alone."""
    constant: set[fx.Node] = set()
    for n in graph.nodes:
        inputs = n.all_input_nodes
        if n.op == "get_attr" or (n.op != "call_module" and inputs and constant.issuperset(inputs)):
            constant.add(n)
    return constant


def _name(node: fx.Node) -> str:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.removesuffix(".default")  # as torch.export spells some


class _Contractions(fx.Interpreter):
    """Runs a graph and hands each contraction to `contract`."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.constant = _constant(module.graph)
        self.settled_nodes = {n for n in self.constant if _name(n) in STATISTICS}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "get_attr":
            return self.tensor(str(n.target), super().run_node(n))
        if n.op == "call_module" and not isinstance(self.fetch_attr(str(n.target)), MODULES):
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n in self.settled_nodes:
            return self.settled(n, args[0], lambda: super(_Contractions, self).run_node(n))
        if n.op not in ("call_module", "call_function", "call_method") or not _operands(n, args):
            return super().run_node(n)
        for name in ("weight", "bias"):
            if len(args) == 1 + (name == "bias") and name in kwargs:
                args, kwargs = (*args, kwargs[name]), {k: v for k, v in kwargs.items() if k != name}
        if any(isinstance(v, Tensor) for v in kwargs.values()):
            raise NotImplementedError(f"{n.name}: pass its tensors by position")
        run = {"call_module": self.call_module, "call_function": self.call_function}
        call = run.get(n.op, self.call_method)
        return self.contract(n, list(args), lambda *a: call(n.target, a, dict(kwargs)))

    def tensor(self, path: str, value: Any) -> Any:
        return value

    def settled(self, node: fx.Node, operand: Any, call: Callable[[], Any]) -> Any:
        raise NotImplementedError

    def contract(self, node: fx.Node, args: list[Any], call: Callable[..., Any]) -> Any:
        raise NotImplementedError


class _Record(_Contractions):
    """Run 1."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.outputs: dict[fx.Node, Tensor] = {}

    def contract(self, node: fx.Node, args: list[Any], call: Callable[..., Any]) -> Any:
        output = call(*args)
        self.outputs[node] = output.clone()  # what follows may write into it
        return output

    def settled(self, node: fx.Node, operand: Any, call: Callable[[], Any]) -> Any:
        self.outputs[node] = call()
        return self.outputs[node]


class _Probe(_Contractions):
    """Run 2."""

    def __init__(self, module: fx.GraphModule, outputs: dict[fx.Node, Tensor], kept: Kept) -> None:
        super().__init__(module)
        self.outputs, self.kept = outputs, kept
        self.masks: dict[tuple[fx.Node, int], Tensor] = {}

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_function(target, args, kwargs)
        if target is F.pad and output.dim() > 2:  # the border of what is gone is gone too
            planes = args[0].isnan().flatten(2).all(2)
            if planes.shape == output.shape[:2]:
                output[planes] = torch.nan
        return output

    def tensor(self, path: str, value: Any) -> Any:
        if path not in self.kept or not value.is_floating_point():  # an index says where
            return value
        return value.masked_fill(~self.stays(path, value), torch.nan)

    def settled(self, node: fx.Node, operand: Any, call: Callable[[], Any]) -> Any:
        known = self.outputs[node]
        same = known.shape == operand.shape  # a weight again
        return known.masked_fill(operand.isnan(), torch.nan) if same else known

    def stays(self, path: str, value: Tensor) -> Tensor:
        mask = torch.ones_like(value, dtype=torch.bool)
        for dim, indices in self.kept.get(path, {}).items():
            gone = sorted(set(range(value.shape[dim])) - set(indices))
            mask.index_fill_(dim, torch.tensor(gone, dtype=torch.long), False)
        return mask

    def contract(self, node: fx.Node, args: list[Any], call: Callable[..., Any]) -> Any:
        for i in _operands(node, args):
            if args[i].is_floating_point():
                self.masks[node, i] = args[i].isnan()
        read = [self.masks.get((node, i)) for i in range(len(args))]
        if node.op == "call_module":
            terms = self.module_terms(node, args, read)
        else:
            terms = self.function_terms(node, args, read, call)
        # a border position that sums nothing at all is not gone
        gone = (terms(False) == 0) & (terms(True) > 0)
        if node in self.constant:  # a factorised weight: its statistics see every column
            for i, mask in enumerate(read):
                if mask is not None:
                    whole = mask.all(-1 if i else -2, keepdim=True)
                    self.masks[node, i] = whole.expand_as(mask)
        return self.outputs[node].masked_fill(gone, torch.nan)

    def module_terms(
        self, node: fx.Node, args: list[Any], read: list[Tensor | None]
    ) -> Callable[[bool], Tensor]:
        module = self.fetch_attr(str(node.target))
        if module.weight is None:  # a norm without scales
            return lambda everything: module((~read[0] | everything).to(args[0].dtype))
        weight = self.stays(f"{node.target}.weight", module.weight)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            weight = weight.flatten(1).any(1).view(-1, *[1] * (weight.dim() - 1)).expand_as(weight)

        def terms(everything: bool) -> Tensor:
            tensors = {"weight": (weight | everything).to(module.weight.dtype)}
            if "mask" in module._buffers:  # of the weight's elements, which are all there
                tensors["mask"] = torch.ones_like(module.mask)
            if getattr(module, "bias", None) is not None:
                tensors["bias"] = torch.zeros_like(module.bias)
            x = args[0] if read[0] is None else (~read[0] | everything).to(args[0].dtype)
            return functional_call(module, tensors, (x,))

        return terms

    def function_terms(
        self, node: fx.Node, args: list[Any], read: list[Tensor | None], call: Callable[..., Any]
    ) -> Callable[[bool], Tensor]:
        def terms(everything: bool) -> Tensor:
            there = [
                a if r is None else (~r | everything).to(a.dtype)
                for a, r in zip(args, read, strict=True)
            ]
            if _name(node) == DISTANCES:
                rows, columns = (x.amax(-1) for x in there[:2])
                return rows[..., :, None] * columns[..., None, :]
            if _name(node) == ATTENTION:
                return there[2].amax(-2, keepdim=True).expand_as(self.outputs[node])
            if _has_bias(node, args):
                there[2] = torch.zeros_like(args[2])
            return call(*there)

        return terms


def _has_bias(node: fx.Node, args: list[Any]) -> bool:
    named = getattr(node.target, "__name__", node.target) in WITH_BIAS
    return named and len(args) > 2 and isinstance(args[2], Tensor)


class _Masked(_Contractions):
    """Run 3."""

    def __init__(self, module: fx.GraphModule, masks: dict[tuple[fx.Node, int], Tensor]) -> None:
        super().__init__(module)
        self.masks = masks

    def settled(self, node: fx.Node, operand: Any, call: Callable[[], Any]) -> Any:
        return call()

    def contract(self, node: fx.Node, args: list[Any], call: Callable[..., Any]) -> Any:
        for i, a in enumerate(args):
            if (node, i) in self.masks:
                args[i] = a.masked_fill(self.masks[node, i], 0.0)
        return call(*args)
