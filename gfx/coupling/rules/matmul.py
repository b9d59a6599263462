"""Couples products of two activations: matmul, bmm, einsum, outer, scaled dot-product attention.

Each operand's dimensions are named by letters. Letters that both have are united; letters that
the output lacks are contracted; labels on the others carry on.
"""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np
from torch import Tensor, fx

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled, core, varying
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import Ids

__all__ = ["FUNCTIONS"]

Operand = tuple[Labeled, fx.Node, str]


def contract(flow: Flow, call: Call, operands: Sequence[Operand], out: str) -> Labeled:
    """Couples the letters of a product and carries those of the output."""
    everywhere = [set(letters) for _, _, letters in operands]
    batch = set(out).intersection(*everywhere)
    for value, _, letters in operands:
        for labels in value.fields:
            _straighten(flow, labels, letters, batch)
    ids: dict[str, Ids] = {}
    laid = _laid_out(operands, out)
    for letter in dict.fromkeys("".join(letters for _, _, letters in operands)):
        if letter in laid:
            continue
        found = _meet_letter(flow, call, operands, letter)
        if found is not None:
            ids[letter] = found
    for letter in set(ids) - set(out):
        value, node, letters = next(o for o in operands if letter in o[2])
        flow.read(call, node, letters.index(letter), ids[letter])
    flow.prices(call, *ids.values(), *(found for several in laid.values() for found in several))
    fields = [
        make_field(found, d, call.shape)
        for d, letter in enumerate(out)
        for found in laid.get(letter, [ids[letter]] if letter in ids else [])
        if call.shape[d] > 1
    ]
    return Labeled(call.shape, tuple(fields), flow.long.first(*(v.why for v, _, _ in operands)))


def _laid_out(operands: Sequence[Operand], out: str) -> dict[str, list[Ids]]:
    """Finds letters that carry several dimensions laid out as one, as in a mixture of kernels.

    A letter that only one operand has is carried as it is: a later view takes it apart again.
    """
    found: dict[str, list[Ids]] = {}
    for value, _, letters in operands:
        for d, letter in enumerate(letters):
            fields = [f for f in value.fields if d in varying(f)]
            lone = sum(letter in others for _, _, others in operands) == 1
            if (
                letter in out
                and lone
                and len(fields) > 1
                and all(varying(f) == (d,) for f in fields)
            ):
                found[letter] = [core(f).numpy().ravel() for f in fields]
    return found


def _straighten(flow: Flow, labels: Tensor, letters: str, batch: set[str]) -> None:
    """Unites a field that varies on several letters until it varies on one.

    Heads times width, seen as (batch letter, other letter): "width" narrows every head alike,
    "heads" removes whole heads.
    """
    over = varying(labels)
    if len(over) < 2:
        return
    shared = [d for d in over if letters[d] in batch]
    free = [d for d in over if letters[d] not in batch]
    if not (shared and free):
        stay = over[-1]
    else:
        stay = free[-1] if flow.attention == "width" else shared[-1]
    rows = core(labels).movedim(stay, 0).reshape(labels.shape[stay], -1).numpy()
    flow.labels.unite(rows[:, :1], rows[:, 1:])


def _meet_letter(flow: Flow, call: Call, operands: Sequence[Operand], letter: str) -> Ids | None:
    """Unites the labels that the operands have along one letter."""
    found: Ids | None = None
    fixed: list[Labeled] = []
    sized = [(v, letters.index(letter)) for v, _, letters in operands if letter in letters]
    for value, d in sized:
        if value.shape[d] == 1:
            continue
        ids = _straight(flow, value, d)
        if ids is None:  # no labels, or those of a split dimension that is narrowed elsewhere
            fixed.append(value)
            continue
        if found is not None:
            flow.labels.unite(found, ids)
        found = ids
    for value in fixed:
        flow.pin(found, value.why or f"{call.node.name} meets a fixed size there")
    return found


def _straight(flow: Flow, value: Labeled, dim: int) -> Ids | None:
    """Reads the labels along one dimension, skipping fields that were united away from it."""
    for labels in value.fields:
        if dim not in varying(labels):
            continue
        rows = core(labels).movedim(dim, 0).reshape(value.shape[dim], -1).numpy()
        first = rows[:, 0]
        if len(varying(labels)) > 1 and len(np.unique(flow.labels.find(first))) == 1:
            continue  # constant along this dimension after straightening
        return np.asarray(flow.along(value, dim))
    return None


def matmul(flow: Flow, call: Call) -> Labeled:
    """Couples (..., n, k) @ (..., k, m), vectors and broadcast batch dimensions included."""
    a, b = call.arg(0, "input"), call.arg(1, "other")
    if b is None:
        b = call.arg(1, "mat2") or call.arg(1, "vec")
    return _matmul(flow, call, a, b, call.node.all_input_nodes[:2])


def _matmul(flow: Flow, call: Call, a: Labeled, b: Labeled, nodes: Sequence[fx.Node]) -> Labeled:
    left = "k" if a.ndim == 1 else "nk"
    right = "k" if b.ndim == 1 else "km"
    depth = max(a.ndim, b.ndim) - 2
    names = [c for c in ascii_letters if c not in "nkm"][: max(0, depth)]
    lead = ["".join(names[depth - (v.ndim - len(own)) :]) if v.ndim > len(own) else ""
            for v, own in ((a, left), (b, right))]  # fmt: skip
    out = "".join(names) + left.replace("k", "") + right.replace("k", "")
    nodes = nodes if len(nodes) == 2 else [nodes[0], nodes[0]]  # x @ x.T may be one node twice
    return contract(
        flow, call, [(a, nodes[0], lead[0] + left), (b, nodes[1], lead[1] + right)], out
    )


def outer(flow: Flow, call: Call) -> Labeled:
    """Lays the labels of two vectors along the two dimensions of their products (outer, ger)."""
    rows, columns = call.tensors
    fields = [labels.unsqueeze(1).expand(call.shape) for labels in rows.fields]
    fields += [labels.unsqueeze(0).expand(call.shape) for labels in columns.fields]
    return Labeled(call.shape, tuple(fields), flow.long.first(rows.why, columns.why))


def addmm(flow: Flow, call: Call) -> Labeled:
    """Couples input + a @ b (addmm, baddbmm, addmv)."""
    bias, a, b = call.args[:3]
    nodes = call.node.all_input_nodes
    product = _matmul(flow, call, a, b, nodes[1:3] if len(nodes) > 2 else nodes)
    return flow.meet([product, bias], call.shape) if isinstance(bias, Labeled) else product


def einsum(flow: Flow, call: Call) -> Labeled:
    """Couples torch.einsum with an explicit or implicit output and an ellipsis."""
    equation = call.arg(0, "equation")
    values = call.args[1:]
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = tuple(values[0])
    terms, out = _parse(equation, [v.ndim for v in values])
    nodes = call.node.all_input_nodes
    nodes = nodes if len(nodes) == len(values) else [nodes[0]] * len(values)
    return contract(flow, call, list(zip(values, nodes, terms, strict=True)), out)


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Spells an einsum equation with one letter for each dimension."""
    left, _, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [c for c in ascii_letters if c not in equation]
    longest = max(
        (r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t),
        default=0,
    )
    dots = "".join(spare[:longest])
    if "->" not in equation:
        counts = left.replace(",", "").replace(".", "")
        out = dots + "".join(sorted(c for c in set(counts) if counts.count(c) == 1))
    spelled = []
    for term, rank in zip(terms, ranks, strict=True):
        own = rank - len(term.replace("...", ""))
        spelled.append(term.replace("...", dots[longest - own :] if own else ""))
    return spelled, out.replace("...", dots)


def attention(flow: Flow, call: Call) -> Labeled:
    """Couples scaled dot-product attention: E is contracted, the values' width carries on."""
    names = ("query", "key", "value")
    q, k, v = (call.arg(i, n) for i, n in enumerate(names))
    flow.fix(k, f"{call.node.name} takes a softmax over it", [-2])
    flow.fix(v, f"{call.node.name} takes a softmax over it", [-2])
    lead = "".join(ascii_letters[: q.ndim - 2])
    nodes = [
        call.node.args[i] if i < len(call.node.args) else call.node.kwargs[n]
        for i, n in enumerate(names)
    ]
    operands = [
        (value, node, lead + tail)
        for value, node, tail in zip((q, k, v), nodes, ("LE", "SE", "SV"), strict=True)
    ]
    out = contract(flow, call, operands, lead + "LV")  # type: ignore[arg-type]
    mask = call.arg(3, "attn_mask")
    if isinstance(mask, Labeled):
        shape = (*q.shape[:-1], k.shape[-2])
        heads = [(d, flow.along(out, d)) for d in range(len(lead))]
        scores = [make_field(ids, d, shape) for d, ids in heads if ids is not None]
        flow.meet([Labeled(shape, tuple(scores)), mask], shape)
    return out


FUNCTIONS = {
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), matmul),
    **dict.fromkeys(("outer", "ger"), outer),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), addmm),
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
}
