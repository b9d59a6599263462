"""The recipe convert says what it found, whatever it is given; hooks fold or are named."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import gfx
from support.oracle import alike

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 3, 3)).eval()


def masked():
    return gfx.apply({"passes": [{"mask": {"sparsity": 0.5}}]}, net(), X)


def converted():
    student = masked()
    mask = next(m for m in student.modules() if hasattr(m, "kept"))
    mask.mask[:4] = 0
    return gfx.apply("convert", student, X)


NOTHING = "no pass found anything to change"


@pytest.mark.parametrize("make", [net, converted], ids=["untouched", "converted"])
def test_a_model_with_nothing_to_convert_is_told_so(make):
    model = make()
    small = gfx.apply("convert", model, X)
    assert alike(small(X), model(X))
    report = gfx.report(small)
    assert NOTHING in str(report)
    notes = {p.name: p.details.get("note", "") for p in report.passes}
    assert notes["fold_masks"].startswith("there are no masks of gfx")
    assert notes["remove_zeros"].startswith("no channel that may go is the same for every input")


def test_what_was_converted_is_not_said_to_be_untouched():
    assert NOTHING not in str(gfx.report(converted()))


def test_masks_that_zero_nothing_yet_are_told():
    notes = [
        p.details.get("note", "") for p in gfx.report(gfx.apply("convert", masked(), X)).passes
    ]
    assert any(note.startswith("no mask zeroes anything: none was set yet") for note in notes)


def test_a_file_converts_by_its_path(tmp_path):
    student = masked()
    next(m for m in student.modules() if hasattr(m, "kept")).mask[:4] = 0
    gfx.save(student, tmp_path / "student.gfx")
    small = gfx.apply("convert", tmp_path / "student.gfx")
    assert gfx.cost(small, X).params < gfx.cost(student, X).params


def exported():
    return torch.export.export(net(), (X,))


REFUSED = {
    "ExportedProgram": (exported, r"is an ExportedProgram of torch\.export; pass its \.module\(\)"),
    "state dict": (lambda: net().state_dict(), r"a state dict \(6 tensors.*call load_state_dict"),
    "class": (lambda: nn.Conv2d, "is the class Conv2d, not a module; make one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_model_is_refused_with_what_to_pass(case):
    make, said = REFUSED[case]
    with pytest.raises(gfx.InputError, match=said):
        gfx.apply("convert", make(), X)


def test_an_exported_module_converts():
    model = net()
    model[0].weight.data[:3], model[0].bias.data[:3] = 0, 0
    small = gfx.apply("convert", torch.export.export(model, (X,)).module(), X)
    assert alike(small(X), model(X))
    assert gfx.cost(small, X).params < gfx.cost(model, X).params


@pytest.mark.parametrize("make", [net, converted], ids=["untouched", "converted"])
def test_a_schedule_of_a_model_without_masks_is_refused(make):
    with pytest.raises(gfx.InputError, match="holds no masks and no penalties; put some in first"):
        gfx.schedule(make())


def test_an_optimizer_of_another_model_is_refused():
    optimizer = torch.optim.Adam(net().parameters())
    said = (
        r"the optimizer \(Adam, 6 parameters\) trains none of the 6 parameters of this Sequential"
    )
    with pytest.raises(gfx.InputError, match=said):
        gfx.schedule(masked(), optimizer)


# hooks as they are in ports of StyleGAN and elsewhere


class EqualLR:
    """As in rosinality's ports: the weight is set anew at every call."""

    def __init__(self, name):
        self.name = name

    def compute_weight(self, module):
        weight = getattr(module, self.name + "_orig")
        fan_in = weight.data.size(1) * weight.data[0][0].numel()
        return weight * (2 / fan_in) ** 0.5

    @staticmethod
    def apply(module, name):
        fn = EqualLR(name)
        weight = getattr(module, name)
        del module._parameters[name]
        module.register_parameter(name + "_orig", nn.Parameter(weight.data))
        module.register_forward_pre_hook(fn)
        return module

    def __call__(self, module, input):
        setattr(module, self.name, self.compute_weight(module))


def scaled_buffer(layer):
    """He's constant as a buffer, the learning-rate multiplier of the bias in the hook too."""
    for name in ("weight", "bias"):
        value = getattr(layer, name)
        del layer._parameters[name]
        layer.register_parameter(f"{name}_orig", nn.Parameter(value.data))
    layer.register_buffer("weight_gain", torch.tensor(layer.weight_orig[0].numel() ** -0.5))

    def equalize(module, _):
        module.weight = module.weight_orig * module.weight_gain
        module.bias = module.bias_orig * 0.01

    layer.register_forward_pre_hook(equalize)
    return layer


FOLDED = {
    "rosinality": lambda layer: EqualLR.apply(layer, "weight"),
    "with a buffer": scaled_buffer,
    "old spectral_norm": nn.utils.spectral_norm,
    "old weight_norm": lambda layer: nn.utils.weight_norm(layer),
    "spectral_norm": parametrizations.spectral_norm,
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("style", FOLDED)
def test_computed_weights_of_every_style_are_plain_after_convert(style):
    model = net()
    for i in (0, 2, 4):
        model[i] = FOLDED[style](model[i])
    model.eval()
    small = gfx.apply("convert", model, X)
    assert alike(small(X), model(X))
    assert {n.rpartition(".")[2] for n in small.state_dict()} == {"weight", "bias"}
    half = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, small, X)
    assert gfx.cost(half, X).params < gfx.cost(small, X).params


def demodulates(module, inputs):
    norm = module.weight_orig.square().sum().rsqrt() * inputs[0].mean()
    module.weight = module.weight_orig * norm


def draws_noise(module, inputs):
    module.weight = module.weight_orig + torch.randn_like(module.weight_orig)


def scales_the_input(module, inputs):
    return (inputs[0] * 0.5,)


def keeps_an_average(module, inputs):
    module.average.mul_(0.9)
    module.weight = module.weight_orig * module.average


@pytest.mark.parametrize("hook", [demodulates, draws_noise, scales_the_input, keeps_an_average])
def test_a_hook_that_cannot_be_folded_is_named_by_convert(hook):
    model = net()
    layer = model[2]
    if hook is not scales_the_input:
        weight = layer.weight
        del layer._parameters["weight"]
        layer.register_parameter("weight_orig", nn.Parameter(weight.data))
        layer.weight = weight.data
    if hook is keeps_an_average:
        layer.register_buffer("average", torch.ones(()))
    layer.register_forward_pre_hook(hook)
    report = gfx.report(gfx.apply("convert", model, X, verify=False))
    why = [skip.why for p in report.passes for skip in p.skips if skip.node == "2"]
    assert any(f"{__name__}.{hook.__name__}" in text for text in why)
