"""Rewrites a graph around errors in torch's exporters."""

import torch.nn.functional as F
from torch import fx

__all__ = ["apply_workarounds"]

_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def apply_workarounds(module: fx.GraphModule) -> None:
    """Rewrites a graph in place; in eval mode it computes the same.

    A batch norm that uses the statistics of its input, but has running ones too, loses these: the
    exporter to ONNX (torch 2.13) would use the running ones.

    Example:
        >>> import torch
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> _ = graph.output(graph.call_function(F.batch_norm, (x, x, x, None, None, True)))
        >>> module = fx.GraphModule({}, graph)
        >>> apply_workarounds(module)
        >>> next(node for node in module.graph.nodes if node.op == "call_function").args
        (x,)
    """
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target is F.batch_norm:
            _without_running_statistics(node)
    module.graph.lint()
    module.recompile()


def _without_running_statistics(node: fx.Node) -> None:
    names = (
        "input",
        "running_mean",
        "running_var",
        "weight",
        "bias",
        "training",
        "momentum",
        "eps",
    )
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if given.get("training") is not True:
        return
    node.args = (given["input"],)
    given |= {"running_mean": None, "running_var": None}
    node.kwargs = {name: given[name] for name in _NAMES[1:] if name in given}
