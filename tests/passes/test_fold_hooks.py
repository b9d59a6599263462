"""Weights that pre-hooks compute are folded where the hook only sets them, else it is named."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import gfx
from support.oracle import alike

X = torch.randn(2, 3, 8, 8)


class EqualLR:
    """The equalized learning rate of the StyleGAN ports."""

    def __call__(self, module, inputs):
        fan = module.weight_orig[0].numel()
        module.weight = module.weight_orig * (2 / fan) ** 0.5


def equalized(layer):
    weight = layer.weight
    del layer._parameters["weight"]
    layer.register_parameter("weight_orig", nn.Parameter(weight.data))
    layer.register_forward_pre_hook(EqualLR())
    return layer


def standardized(layer):
    """A closure over nothing but a name, which sets weight and bias."""
    weight, bias = layer.weight, layer.bias
    del layer._parameters["weight"], layer._parameters["bias"]
    layer.weight_v, layer.bias_v = nn.Parameter(weight.data), nn.Parameter(bias.data)

    def hook(module, inputs):
        module.weight = module.weight_v - module.weight_v.mean(dim=0, keepdim=True)
        module.bias = module.bias_v * 2

    layer.register_forward_pre_hook(hook)
    return layer


l1 = prune.l1_unstructured
MAKERS = {
    "EqualLR": equalized,
    "two tensors": standardized,
    "l1": lambda layer: l1(layer, "weight", 0.5),
    "random": lambda layer: prune.random_unstructured(layer, "weight", 0.3),
    "structured": lambda layer: prune.ln_structured(layer, "weight", 0.5, n=2, dim=0),
    "bias too": lambda layer: l1(l1(layer, "weight", 2), "bias", 1),
    "twice": lambda layer: l1(l1(layer, "weight", 0.3), "weight", 0.3),
    "spectral_norm": nn.utils.spectral_norm,
}


def net(make):
    torch.manual_seed(0)
    first = make(nn.Conv2d(3, 8, 3, padding=1))
    return nn.Sequential(first, nn.ReLU(), make(nn.Conv2d(8, 8, 3)), nn.Conv2d(8, 3, 1)).eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "has run"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_hook_that_sets_weights_is_folded_exactly(make, ran):
    model = net(make)
    if ran:
        model(X)
    before = copy.deepcopy(model.state_dict())
    plain = gfx.apply({"passes": ["fold_parametrizations"]}, model, X)
    assert alike(plain(X), model(X))
    for name in ("0", "2"):
        layer = plain.get_submodule(name)
        assert isinstance(layer.weight, nn.Parameter)
        assert layer.weight.requires_grad
        assert not layer._forward_pre_hooks
        assert {n for n, _ in layer.named_parameters()} == {"weight", "bias"}
        assert not dict(layer.named_buffers())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_is_folded_is_pruned(make):
    recipe = {"passes": ["fold_parametrizations", {"channel_prune": {"ratio": 0.5}}]}
    small = gfx.apply(recipe, net(make), X)
    assert small.get_submodule("0").out_channels == 4


@pytest.mark.parametrize("make", [MAKERS["structured"], MAKERS["l1"]], ids=["structured", "l1"])
def test_convert_takes_the_masks_of_torch_away(make):
    model = net(make)
    small = gfx.apply("convert", model, X)
    assert alike(small(X), model(X))
    assert not any(name.endswith(("_mask", "_orig")) for name in small.state_dict())


def reads_the_input(module, inputs):
    module.weight = module.weight_orig * inputs[0].mean()


def draws(module, inputs):
    module.weight = module.weight_orig * torch.rand(())


def counts(module, inputs):
    module.calls += 1
    module.weight = module.weight_orig * 1.0


@pytest.mark.parametrize("hook", [reads_the_input, draws, counts])
def test_a_hook_that_does_more_is_named(hook):
    model = net(equalized)
    layer = model[2]
    layer._forward_pre_hooks.clear()
    layer.register_buffer("calls", torch.zeros(()))
    layer.register_forward_pre_hook(hook)
    recipe = {"passes": ["fold_parametrizations"]}
    report = gfx.report(gfx.apply(recipe, model, X, verify=False))
    (skip,) = report.passes[0].skips
    assert skip.node == "2"
    assert f"{__name__}.{hook.__name__}" in skip.why
