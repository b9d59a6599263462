"""Attacks with modules: hostile attributes, odd outputs, hooks, and parameters of every kind."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gfx
from attack.verdicts import Verdict

__all__ = ["attack_model"]


class Body(nn.Module):
    """A small generator to spoil."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Conv2d(3, 12, 3),
            nn.BatchNorm2d(12),
            nn.Conv2d(12, 3, 1),
        )

    def forward(self, x: Any) -> Any:
        return self.last(self.norm(self.first(x)).relu())


class Lying:
    """Answers every question with an error."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} today")

    def __repr__(self) -> str:
        raise ValueError("no words")

    def __eq__(self, other: object) -> bool:
        raise TypeError("incomparable")

    __hash__ = None  # type: ignore[assignment]


def attack_model(dice: random.Random, folder: Path) -> Verdict | None:
    """Spoils a net in one or two ways, then traces, counts, prunes and saves it."""
    net = Body().eval()
    for _ in range(dice.choice((1, 1, 2))):
        try:
            made = dice.choice(SPOILERS)(net, dice)
        except Exception as error:  # torch itself refuses to make such a net
            return Verdict("done", f"not made: {error}")
        net = net if made is None else made
    image = torch.randn(2, 3, 10, 10)
    kept = _tensors(net)
    try:
        _used(dice, net, dice.choice((image, None)), folder)
    finally:
        now = _tensors(net)
        assert kept.keys() == now.keys(), "the model's state dict has other keys"
        assert all(torch.equal(kept[k].nan_to_num(), now[k].nan_to_num()) for k in kept), (
            "the model has other values"
        )
    return None


def _used(dice: random.Random, net: Any, image: Any, folder: Path) -> None:
    match dice.randrange(6):
        case 0:
            gfx.cost(net, image)
        case 1:
            gfx.channels(net, image)
        case 2:
            gfx.inspect(net, image, fast=True)
        case 3:
            program = gfx.trace(net, image)
            gfx.save(program.module, folder / "net.gfx")
            gfx.load(folder / "net.gfx")
        case _:
            small = gfx.apply(
                {"passes": ["fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}]}, net, image
            )
            str(gfx.report(small))
            gfx.save(small, folder / dice.choice(("net.gfx", "net.pt")))


def _tensors(net: Any) -> dict[str, torch.Tensor]:
    """The plain tensors of a state dict, copied; {} where it cannot be read."""
    try:
        state = net.state_dict()
        return {
            k: v.clone()
            for k, v in state.items()
            if type(v) is torch.Tensor
            and v.layout == torch.strided
            and not v.is_meta
            and not v.is_quantized
        }
    except Exception:
        return {}


def _attribute(net: nn.Module, dice: random.Random) -> None:
    """An attribute that is nothing a module should have."""
    values = (
        Lying(),
        lambda: 0,
        iter([1]),
        open,
        print,
        object(),
        type,
        net,
        [net],
        {"a": net},
        10**4000,
        "\ud800",
        float("nan"),
        {1: Lying()},
    )
    vars(net)[dice.choice(("odd", "x y", "1", "first_", "meta", "é"))] = dice.choice(values)


def _property(net: nn.Module, dice: random.Random) -> None:
    def refuse(self: Any) -> Any:
        raise dice.choice((RuntimeError, AttributeError, KeyError, ValueError, StopIteration))(
            "not today"
        )

    name = dice.choice(("odd", "device", "dtype", "shape", "in_channels"))
    net.__class__ = type("Property", (type(net),), {name: property(refuse)})


def _raising(net: nn.Module, dice: random.Random) -> None:
    error = dice.choice(
        (
            RuntimeError("x"),
            KeyError("y"),
            StopIteration(),
            AssertionError(),
            MemoryError(),
            RecursionError(),
            NotImplementedError(),
            OSError(28, "z"),
            ValueError("\ud800"),
            Exception("a" * 99_999),
        )
    )
    late = dice.random() < 0.5
    calls = [0]

    def forward(self: Any, x: Any) -> Any:
        calls[0] += 1
        if not late or calls[0] > 2:
            raise error
        return type(self).__mro__[1].forward(self, x)

    net.__class__ = type("Raising", (type(net),), {"forward": forward})


class Box:
    def __init__(self, x: Any) -> None:
        self.x = x


def _output(net: nn.Module, dice: random.Random) -> None:
    """An output of another kind."""
    wrap = dice.choice((
        lambda y: None, lambda y: 3, lambda y: "text", lambda y: [y, None], lambda y: {"a": y, 1: y}, lambda y: Box(y), lambda y: (y, [y, {"b": (y,)}]),
        lambda y: iter([y]), lambda y: (z for z in [y]), lambda y: y.numpy(), lambda y: y.detach().sum().item(), lambda y: y > 0, lambda y: {y},
        lambda y: y.to_sparse(), lambda y: y.to(torch.complex64), lambda y: y[:0], lambda y: Lying(), lambda y: (), lambda y: {}, lambda y: y.shape,
        lambda y: [[y] * 50] * 50, lambda y: nn.Parameter(y.detach()), lambda y: y.tolist(), lambda y: y.unbind(0), lambda y: torch.nested.nested_tensor([y[0], y[1]]),
        lambda y: torch.distributions.Normal(y, 1.0), lambda y: y.max(1), lambda y: torch.rand_like(y), lambda y: y.half(), lambda y: y * float("nan"),
    ))  # fmt: skip
    net.__class__ = type(
        "Output", (type(net),), {"forward": lambda self, x: wrap(Body.forward(self, x))}
    )


def _signature(net: nn.Module, dice: random.Random) -> None:
    forwards: tuple[Any, ...] = (
        lambda self: torch.zeros(1, 3, 4, 4), lambda self, *xs: Body.forward(self, xs[0]), lambda self, **ks: Body.forward(self, ks["x"]),
        lambda self, x, flag: Body.forward(self, x) if flag else x, lambda self, x, y=None, *, z=3: Body.forward(self, x) * z,
        lambda self, x: Body.forward(self, x) if x.sum() > 0 else x, lambda self, x: Body.forward(self, x[x > 0].view(1, -1)),
        lambda self, x: [Body.forward(self, x) for _ in range(int(x.sum().abs()) % 3)], lambda self, x: Body.forward(self, x.tolist()),
        lambda self, x: Body.forward(self, {"a": x}["b"]), lambda self, x: setattr(self, "seen", x) or Body.forward(self, x),
        lambda self, x: x.add_(1) * Body.forward(self, x), lambda self, x: exec("y = 1") or Body.forward(self, x), lambda self, x: self.forward(x),
    )  # fmt: skip
    net.__class__ = type("Signature", (Body,), {"forward": dice.choice(forwards)})


def _hook(net: nn.Module, dice: random.Random) -> None:
    def raising(*_: Any) -> Any:
        raise ValueError("hook")

    part = dice.choice((net, net.first, net.last))
    hook = dice.choice(
        (
            raising,
            lambda *a: None,
            lambda m, i, *o: o[0] if o else i,
            lambda *a: torch.zeros(1),
            lambda *a: "x",
        )
    )
    register = dice.choice(
        (
            "register_forward_hook",
            "register_forward_pre_hook",
            "register_full_backward_hook",
            "register_state_dict_pre_hook",
            "register_load_state_dict_post_hook",
        )
    )
    getattr(part, register)(hook)


def _parameter(net: nn.Module, dice: random.Random) -> None:
    """A parameter or buffer of a kind that convolutions do not have."""
    weight = net.first.weight
    made = dice.choice((
        lambda: net.first.to("meta"), lambda: net.to(torch.complex64), lambda: net.half(), lambda: net.double(), lambda: net.to(torch.bfloat16),
        lambda: setattr(net.first, "weight", nn.Parameter(torch.zeros(0, 3, 3, 3))), lambda: setattr(net.first, "bias", nn.Parameter(torch.zeros(7))),
        lambda: setattr(net.last, "weight", nn.Parameter(weight.data[:3, :, :1, :1].repeat(1, 2, 1, 1))), lambda: setattr(net, "tied", weight),
        lambda: net.register_parameter("extra", nn.Parameter(torch.eye(3).to_sparse())), lambda: net.register_buffer("extra", torch.zeros(0)),
        lambda: net.register_buffer("extra", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)), lambda: weight.data.fill_(float("nan")),
        lambda: net.register_parameter("extra", nn.UninitializedParameter()), lambda: net.register_parameter("extra", None), lambda: net.share_memory(),
        lambda: net.register_buffer("extra", torch.ones(1).expand(2**40)), lambda: net.add_module("self", net.first), lambda: net.add_module("a b", nn.ReLU()),
        lambda: setattr(net, "first", nn.LazyConv2d(12, 3)), lambda: delattr(net, "norm"), lambda: net.register_buffer("extra", torch.ones(3), persistent=False),
        lambda: setattr(net.first, "weight", nn.Parameter(weight.data.to_sparse())), lambda: vars(net.first).pop("_parameters"), lambda: setattr(net.norm, "running_mean", None),
        lambda: net.requires_grad_(False), lambda: setattr(net.first, "stride", "x"), lambda: setattr(net.first, "padding", (10**9, 10**9)), lambda: setattr(net.first, "groups", 0),
        lambda: net.add_module("again", None), lambda: net._modules.__setitem__("loop", net), lambda: nn.utils.spectral_norm(net.first), lambda: nn.utils.parametrizations.weight_norm(net.first),
        lambda: nn.utils.parametrize.register_parametrization(net.first, "weight", _Odd()), lambda: net.train(), lambda: setattr(net.norm, "num_features", -3),
    ))  # fmt: skip
    made()


class _Odd(nn.Module):
    def forward(self, x: Any) -> Any:
        raise ZeroDivisionError("parametrization")


def _whole(net: nn.Module, dice: random.Random) -> Any:
    """Something else than the net."""
    image = torch.randn(2, 3, 10, 10)
    return dice.choice((
        lambda: torch.jit.trace(net, image), lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1))), lambda: nn.DataParallel(net), lambda: torch.compile(net),
        lambda: nn.Module(), lambda: nn.ModuleList([net]), lambda: nn.ModuleDict({"a": net}), lambda: nn.Sequential(), lambda: nn.Sequential(net, *[nn.Identity()] * 40),
        lambda: nn.Identity(), lambda: net.forward, lambda: type(net), lambda: None, lambda: "zoo:dcgan", lambda: net.state_dict(), lambda: torch.fx.symbolic_trace(net),
        lambda: torch.ao.quantization.QuantWrapper(net), lambda: nn.LSTM(3, 3), lambda: nn.Sequential(net, nn.Flatten(), nn.LazyLinear(3)), lambda: nn.Embedding(3, 3),
    ))()  # fmt: skip


SPOILERS = (
    _attribute,
    _property,
    _raising,
    _output,
    _output,
    _signature,
    _hook,
    _parameter,
    _parameter,
    _parameter,
    _whole,
)
