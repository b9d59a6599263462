"""What gfx's passes make exports: masks, taps and penalties too."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.ir.modules import ChannelMask
from support.laws import EFFORT
from support.zoo_small import small

RECIPES: dict[str, tuple[str, Any]] = {
    "narrower": ("dcgan", {"passes": [{"channel_prune": {"ratio": 0.5}}]}),
    "separable-body": ("resnet_9blocks", "separable-body"),
    "masks": ("resnet_9blocks", "agp-half"),
    "taps": ("resnet_9blocks", "gan-compression-taps"),
    "learned masks": ("unet_256", {"passes": [{"mask": {"kind": "ppcd"}}]}),
    "element masks": ("dcgan", {"passes": [{"mask": {"granularity": "element"}}]}),
    "penalties": ("dcgan", {"passes": [{"mask": {"kind": "slimming"}}]}),
    "norms": ("dcgan", {"passes": ["fuse_batch_norm"]}),
    "tucker": ("dcgan", {"passes": [{"decompose": {"kind": "tucker", "ranks": [2]}}]}),
    "fast": ("dcgan", "fast"),
    "parametrizations": ("sagan", {"passes": ["fold_parametrizations"]}),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_what_passes_make_exports(name: str, form: str, tmp_path: Path) -> None:
    source, recipe = RECIPES[name]
    model, inputs = small(source)
    made = gfx.apply(recipe, model, inputs)
    done = gfx.export(made, tmp_path / f"net.{form}", inputs, dynamic=EFFORT > 1)
    assert done.error is not None
    assert done.error < 2e-5


def test_masks_with_zeros_export_unfolded_and_folded(tmp_path: Path) -> None:
    model, inputs = small("resnet_9blocks")
    masked = gfx.apply("agp-half", model, inputs)
    for mask in masked.modules():
        if isinstance(mask, ChannelMask):
            mask.mask[::2] = False
    for number, given in enumerate((masked, gfx.apply("convert", masked, inputs))):
        path = tmp_path / f"{number}.onnx"
        done = gfx.export(given, path, inputs)
        assert done.dynamic == ("batch", "height", "width")
    assert (tmp_path / "1.onnx").stat().st_size < (tmp_path / "0.onnx").stat().st_size


def test_a_refitted_model_exports(tmp_path: Path) -> None:
    model, inputs = small("srresnet")
    data = [torch.rand(4, 3, 16, 16) for _ in range(4)]
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}, "refit"]}
    made = gfx.apply(recipe, model, inputs, data=data)
    assert gfx.export(made, tmp_path / "net.pt2", inputs).dynamic == ("batch", "height", "width")


def test_names_are_those_of_the_program(tmp_path: Path) -> None:
    model, inputs = small("dcgan")
    gfx.export(model, tmp_path / "net.onnx", inputs, opset=18)
    proto = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(proto)
    assert [item.version for item in proto.opset_import if not item.domain] == [18]
    assert [item.name for item in proto.graph.input] == ["z"]
    assert [item.name for item in proto.graph.output] == ["output"]
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 100, 1, 1]
    assert "up.0.conv.weight" in [item.name for item in proto.graph.initializer]
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)
    assert {"project.conv/ConvTranspose", "up.0.conv/ConvTranspose"} <= set(names)
    assert str(Path(gfx.__file__).parent) not in str(proto)


def test_several_outputs_and_integer_inputs_are_named_and_varied(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 4)

        def forward(self, output: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.table(label) + output
            return {"image": y, "label": label + 1}

    inputs = (torch.rand(1, 4), torch.zeros(1, dtype=torch.int64))
    done = gfx.export(Net(), tmp_path / "net.onnx", inputs)
    assert done.dynamic == ("batch",)
    assert done.inputs == ("output: float32 batch x 4", "label: int64 batch")
    proto = onnx.load(tmp_path / "net.onnx")
    assert [item.name for item in proto.graph.output] == ["output_0", "output_1"]


@pytest.mark.parametrize("inputs", [{"x": torch.rand(2, 3), "y": torch.rand(2, 3)}])
def test_an_input_that_nothing_reads_and_one_that_is_passed_on(inputs: Any, tmp_path: Path) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x * 2

    for form in ("onnx", "pt2"):
        done = gfx.export(Net(), tmp_path / f"net.{form}", inputs)
        assert [text.partition(":")[0] for text in done.inputs] == ["x", "y"]


def test_training_mode_is_noted_and_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    done = gfx.export(model, tmp_path / "net.pt2", torch.rand(1, 3, 8, 8))
    assert "training mode" in str(done)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_program_in_float64_and_one_in_half_precision_export(tmp_path: Path) -> None:
    model, inputs = small("dcgan")
    program = gfx.trace(model.double(), inputs[0].double())
    assert gfx.export(program, tmp_path / "double.pt2").tolerance == 1e-9
    half = gfx.export(model.half(), tmp_path / "half.pt2", inputs[0].half(), dynamic=False)
    assert half.tolerance == 2e-2


def test_a_norm_by_the_statistics_of_its_input_exports(tmp_path: Path) -> None:
    class Net(nn.Module):
        """Adaptive instance normalisation as it is often written."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("mean", torch.full((4,), 3.0))
            self.register_buffer("var", torch.full((4,), 5.0))

        def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            n = y.shape[0]
            flat = y.view(1, n * 4, y.shape[2], y.shape[3])
            mean, var = self.mean.repeat(n), self.var.repeat(n)
            out = F.batch_norm(flat, mean, var, style.reshape(-1), training=True)
            return out.view(y.shape)

    inputs = (torch.rand(2, 3, 8, 8), torch.rand(2, 4))
    done = gfx.export(Net(), tmp_path / "net.onnx", inputs)
    assert done.dynamic == ("batch", "height", "width")


def test_an_output_that_is_none_is_no_output(tmp_path: Path) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return x * 2, None

    for form in ("onnx", "pt2"):
        done = gfx.export(Net(), tmp_path / f"net.{form}", torch.rand(1, 3))
        assert done.dynamic == ("batch",)
