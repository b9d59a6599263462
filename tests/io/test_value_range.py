"""The range of images is what the model itself tells, and an assumption where it tells nothing."""

import pytest
import torch
from torch import nn

import gfx
from gfx.io.data.value_range import find_range, parse_range, written

MEAN = (0.4488, 0.4371, 0.4040)


class MeanShift(nn.Conv2d):
    """As EDSR, RCAN and their heirs write it."""

    def __init__(self, white, sign=-1):
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * white * torch.tensor(MEAN)
        self.requires_grad_(False)


class Net(nn.Module):
    """A body between what is done to the input and to the output."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.before, self.after = before, after
        self.body = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.shift, self.large_shift = MeanShift(1), MeanShift(255)
        self.bound = nn.Hardtanh(0, 1)

    def forward(self, x):
        x = x if self.before is None else self.before(self, x)
        x = self.body(x)
        return x if self.after is None else self.after(self, x)


BEFORE = {
    "mean": (lambda net, x: (x - net.mean) * 1.0, (0, 1)),
    "normalised": (lambda net, x: (x - net.mean) / net.std, (0, 1)),
    "buffer of three": (lambda net, x: x - net.mean.view(1, -1, 1, 1), (0, 1)),
    "mean shift": (lambda net, x: net.shift(x), (0, 1)),
    "mean shift of bytes": (lambda net, x: net.large_shift(x), (0, 255)),
    "doubled": (lambda net, x: x * 2 - 1, (0, 1)),
    "doubled, other order": (lambda net, x: -1 + 2 * x, (0, 1)),
    "halves": (lambda net, x: (x - 0.5) / 0.5, (0, 1)),
    "padded first": (lambda net, x: nn.functional.pad(x, (1, 1, 1, 1)) - net.mean, (0, 1)),
    "over 255": (lambda net, x: x / 255, (0, 255)),
    "over 255, then the mean": (lambda net, x: (x / 255.0 - net.mean) / net.std, (0, 255)),
    "over 127.5": (lambda net, x: x / 127.5 - 1, (0, 255)),
    "times 255": (lambda net, x: x * 255.0, (0, 1)),
    "from minus one": (lambda net, x: (x + 1) / 2, (-1, 1)),
    "from minus one to the mean": (lambda net, x: ((x + 1) / 2 - net.mean) / net.std, (-1, 1)),
}
AFTER = {
    "tanh": (lambda net, x: torch.tanh(x), (-1, 1)),
    "method": (lambda net, x: x.tanh().contiguous(), (-1, 1)),
    "sigmoid": (lambda net, x: torch.sigmoid(x), (0, 1)),
    "tanh to 0..1": (lambda net, x: (torch.tanh(x) + 1) / 2, (0, 1)),
    "sigmoid to -1..1": (lambda net, x: 2 * torch.sigmoid(x) - 1, (-1, 1)),
    "sigmoid to bytes": (lambda net, x: torch.sigmoid(x) * 255, (0, 255)),
    "clamp": (lambda net, x: x.clamp(0, 1), (0, 1)),
    "clamp by name": (lambda net, x: torch.clamp(x, min=-1.0, max=1.0), (-1, 1)),
    "hardtanh": (lambda net, x: net.bound(x), (0, 1)),
    "hardtanh function": (lambda net, x: nn.functional.hardtanh(x), (-1, 1)),
    "cropped": (lambda net, x: torch.tanh(x)[:, :, 1:-1], (-1, 1)),
}
UNTOLD = {
    "nothing": (None, None),
    "relu": (None, lambda net, x: x.relu()),
    "half a clamp": (None, lambda net, x: x.clamp(min=0)),
    "odd bounds": (None, lambda net, x: x.clamp(-3, 7)),
    "sum of bounded": (None, lambda net, x: x.tanh() + x.sigmoid()),
    "a small shift": (lambda net, x: x + 1e-3, None),
    "product of inputs": (lambda net, x: x * x, None),
}


def found(net):
    return find_range(gfx.trace(net.eval(), torch.zeros(1, 3, 8, 8)), net)


@pytest.mark.parametrize("name", BEFORE)
def test_what_is_done_to_the_input_tells(name):
    before, wanted = BEFORE[name]
    told = found(Net(before, lambda net, x: torch.tanh(x) if wanted == (0, 1) else x))
    assert (told.low, told.high) == wanted
    assert "the model's input, tells" in told.sentence


@pytest.mark.parametrize("name", AFTER)
def test_how_the_output_is_bounded_tells(name):
    after, wanted = AFTER[name]
    told = found(Net(None, after))
    assert (told.low, told.high) == wanted
    assert "at the model's end tells" in told.sentence


@pytest.mark.parametrize("name", UNTOLD)
def test_what_tells_nothing_is_an_assumption(name):
    told = found(Net(*UNTOLD[name]))
    assert (told.low, told.high, told.why) == (-1, 1, "")
    assert told.sentence.startswith("assumed that the model takes images in [-1, 1]; if not, give")


@pytest.mark.parametrize("name", ["resnet_9blocks", "unet_256", "pix2pixhd_global", "srresnet"])
def test_image_models_of_the_zoo_tell(name):
    small = {"ngf": 4} | ({} if name == "unet_256" else {"image_size": 32})
    model = gfx.zoo.build(name, **small).eval()
    program = gfx.trace(model, gfx.zoo.example_inputs(name, **small), check=False)
    told = find_range(program, model)
    assert (told.low, told.high) == ((0, 1) if name == "srresnet" else (-1, 1))
    assert told.why


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0..1", (0, 1)), ("-1..1", (-1, 1)), ("0,255", (0, 255)), ("[0, 1]", (0, 1)),
     ("-1:1", (-1, 1)), ("-.5..0.5", (-0.5, 0.5)), ((0, 1), (0, 1)), ([0, 255.0], (0, 255))],
)  # fmt: skip
def test_a_range_is_read(text, wanted):
    assert parse_range(text) == wanted
    assert parse_range(written(parse_range(text))) == wanted


@pytest.mark.parametrize(
    "text", ["", "1", "0-1", "a..b", (0,), (0, 1, 2), 3, None, ("x", "y"), "1..."]
)
def test_what_is_no_range_is_said(text):
    with pytest.raises(gfx.InputError, match=r"is no range; write \(0, 1\), in the shell 0\.\.1"):
        parse_range(text)


@pytest.mark.parametrize("pair", [(1, 0), (0, 0), (0, float("inf")), (float("nan"), 1)])
def test_a_range_that_goes_nowhere_is_said(pair):
    with pytest.raises(gfx.InputError, match="give black first, then white"):
        parse_range(pair)
