"""`gfx.export`: what is written computes what the model does, or nothing is written."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gfx
from support.zoo_small import SMALL, small

# what varies in .onnx; a .pt2 guards what torch specialised: a size of one somewhere inside
DYNAMIC: dict[str, tuple[str, ...]] = {
    "resnet_9blocks": ("batch", "height", "width"),
    "mobile_resnet_9blocks": ("batch", "height", "width"),
    "unet_256": ("batch", "height", "width"),
    "spade": ("batch",),
    "pix2pixhd_global": ("batch", "height", "width"),
    "stargan": ("batch", "height", "width"),
    "srresnet": ("batch", "height", "width"),
    "dcgan": ("batch",),
    "sagan": ("batch",),
    "biggan_128": ("batch",),
}


def in_onnxruntime(path: Path, *inputs: torch.Tensor) -> list[torch.Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    return [torch.from_numpy(np.asarray(value)) for value in session.run(None, fed)]


@pytest.mark.parametrize("name", [n for n in SMALL if n != "spade"])
def test_the_zoo_exports_to_onnx_at_other_sizes_too(name: str, tmp_path: Path) -> None:
    model, inputs = small(name)
    path = tmp_path / "net.onnx"
    done = gfx.export(model, path, inputs)
    assert done.dynamic == DYNAMIC[name]
    assert done.error is not None
    assert done.error < 1e-5
    wide = tuple(x.repeat(3, *[1] * (x.dim() - 1)) for x in inputs)
    if "height" in done.dynamic:
        wide = tuple(torch.cat([x, x], 2) if x.dim() == 4 else x for x in wide)
    with torch.no_grad():
        wanted = model(*wide)
    got = in_onnxruntime(path, *wide)[0]
    assert float((got - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


@pytest.mark.parametrize("name", [n for n in SMALL if n != "spade"])
def test_the_zoo_exports_to_pt2(name: str, tmp_path: Path) -> None:
    model, inputs = small(name)
    done = gfx.export(model, tmp_path / "net.pt2", inputs, dynamic=name in ("dcgan", "srresnet"))
    assert done.dynamic == (DYNAMIC[name] if name in ("dcgan", "srresnet") else ())
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs), model(*inputs))
    assert gfx.cost(loaded, inputs).params > 0


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_spade_exports_at_its_size(form: str, tmp_path: Path) -> None:
    model, inputs = small("spade")
    done = gfx.export(model, tmp_path / f"net.{form}", inputs, dynamic=False)
    assert done.error is not None
    assert done.inputs == ("labels: float32 1 x 5 x 64 x 64",)
