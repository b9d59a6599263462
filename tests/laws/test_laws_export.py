"""Random generators: what is exported computes what they do, or the error names a node."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given
from torch.utils import _pytree as pytree

import gfx
from gfx.errors import ExportError
from support import strategies
from support.blocks import Spec
from support.laws import law


@law(1)
@given(strategies.specs(wraps=True, approximate=True))
def test_onnx_computes_what_the_generator_does(spec: Spec) -> None:
    model, inputs = spec.build()
    inputs = tuple(x.float() if x.is_floating_point() else x for x in inputs)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = gfx.export(model.float(), Path(folder, "net.onnx"), inputs)
        except ExportError as error:
            assert str(error).startswith("node ")  # noqa: PT017 - which is what is to be said
            return
        assert done.error is not None
        assert done.error <= done.tolerance


@law(1)
@given(strategies.specs(wraps=True, approximate=True))
def test_pt2_computes_what_the_generator_does_bit_for_bit(spec: Spec) -> None:
    model, inputs = spec.build()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.pt2")
        done = gfx.export(model, path, inputs, dynamic=spec.seed == 0)
        assert done.error is not None
        assert done.error <= 1e-12
        loaded = torch.export.load(path).module()
        with torch.no_grad():
            pairs = zip(
                pytree.tree_leaves(loaded(*inputs)), pytree.tree_leaves(model(*inputs)), strict=True
            )
            assert all(a.shape == b.shape for a, b in pairs)
