import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx import zoo
from gfx.deploy.export import onnx_bytes
from gfx.errors import ExportError
from support.zoo_small import SMALL


def _run(data: bytes, *inputs: torch.Tensor) -> torch.Tensor:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    return torch.from_numpy(np.asarray(session.run(None, fed)[0]))


def test_bytes_compute_what_the_module_does_and_nothing_is_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = zoo.build("dcgan", **SMALL["dcgan"]).eval()
    program = gfx.trace(model)
    data = onnx_bytes(program.module, program.example_inputs)
    z = torch.randn(program.example_inputs[0].shape)
    with torch.no_grad():
        torch.testing.assert_close(_run(data, z), model(z), rtol=1e-4, atol=1e-5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opset", [2, 15, 99])
def test_an_opset_out_of_range_is_refused_with_the_range(opset: int) -> None:
    with pytest.raises(ExportError, match=rf"opset {opset} .* the exporter knows 16 to \d+;"):
        onnx_bytes(nn.Linear(2, 3), (torch.ones(1, 2),), opset=opset)
