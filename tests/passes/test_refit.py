"""The pass refit: what pruning broke is repaired in closed form."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gfx
from gfx.errors import GfxError, PreconditionError, RecipeError
from gfx.pipeline.pass_report import PassReport
from gfx.testing import check_pass
from passes.refit import Refit

F64 = torch.float64


def chain(bias: bool = True, norm: bool = False, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 12, 3, padding=1, bias=bias)]
    if norm:
        layers.append(nn.BatchNorm2d(12))
    layers += [nn.ReLU(), nn.Conv2d(12, 12, 3, stride=2, padding=1), nn.ReLU()]
    layers += [nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3)]
    model = nn.Sequential(*layers).to(F64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return model.eval()


def images(count: int = 24, size: int = 8, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, dtype=F64, generator=draw)


def refitted(model: nn.Module, data: object = None, first: object = None, **fields) -> PassReport:
    small = applied(model, data, first, **fields)
    return gfx.report(small).passes[-1]


def applied(model: nn.Module, data: object = None, first: object = None, **fields):
    first = {"channel_prune": {"ratio": 0.25}} if first is None else first
    passes = [*([first] if first else []), {"refit": fields}]
    data = images() if data is None else data
    return gfx.apply({"passes": passes}, model, images(1), data=data)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


def duplicated(kind: str) -> nn.Module:
    """A model half of whose hidden channels are linear combinations of the others."""
    torch.manual_seed(1)
    make = {
        "conv": lambda: (nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)),
        "transposed": lambda: (nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 3, 4, stride=2)),
        "deconv": lambda: (nn.ConvTranspose2d(3, 8, 2, stride=2), nn.Conv2d(8, 3, 3)),
        "no bias": lambda: (nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 3, 3, bias=False)),
    }[kind]
    first, second = make()
    model = nn.Sequential(first, second).to(F64).eval()
    mix = torch.randn(4, 4, dtype=F64)
    weight = first.weight.data.movedim(1 if kind == "deconv" else 0, 0)
    for rows in (weight, *([] if first.bias is None else [first.bias.data])):
        rows[4:] = torch.einsum("o...,op->p...", rows[:4], mix)
    return model


@pytest.mark.parametrize("kind", ["conv", "transposed", "deconv", "no bias"])
def test_channels_that_others_can_make_up_for_are_made_up_for(kind):
    model, x = duplicated(kind), images(4, seed=9)
    first = {"channel_prune": {"kept": {"0": [0, 1, 2, 3]}}}
    small = applied(model, first=first, ridge=1e-12)
    assert small.get_submodule("0").weight.numel() == model[0].weight.numel() // 2
    assert distance(small(x), model(x)) < 1e-8


def test_a_linear_layer_makes_up_for_what_is_gone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)).to(F64).eval()
    model[0].weight.data[4:] = torch.randn(4, 4, dtype=F64) @ model[0].weight.data[:4]
    x = torch.randn(40, 6, dtype=F64)
    passes = [{"channel_prune": {"kept": {"0": [0, 1, 2, 3]}}}, {"refit": {"ridge": 1e-10}}]
    small = gfx.apply({"passes": passes}, model, x[:1], data=x)
    assert distance(small(x), model(x)) < 1e-8


def test_an_untouched_model_stays_as_it_is_to_the_byte():
    for model in (chain(), chain(bias=False, norm=True)):
        small = applied(model, first=False)
        report = gfx.report(small).passes[-1]
        assert report.changes == ()
        assert report.details["held_out"] == {"before": 0.0, "after": 0.0}
        for name, value in model.state_dict().items():
            assert torch.equal(small.state_dict()[name], value)


def test_the_error_on_other_data_falls():
    model, x = chain(norm=True, bias=False), images(16, seed=5)
    pruned = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.25}}]}, model, images(1))
    small = applied(model, data=images(64))
    assert distance(small(x), model(x)) < 0.6 * distance(pruned(x), model(x))


def test_the_report_tells_the_error_before_and_after():
    report = refitted(chain())
    held = report.details["held_out"]
    assert 0 < held["after"] < held["before"]
    assert report.details["examples"] == {"fitted": 18, "held_out": 6}
    assert {"2", "6"} <= {c.node for c in report.changes} <= {"2", "4", "6"}
    assert all(c.after <= c.before for c in report.changes)


def test_tensors_datasets_and_loaders_give_the_same():
    x = images()
    forms = (
        x,
        TensorDataset(x, torch.zeros(len(x))),
        DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=5),
        list(x.split(7)),
        iter(x.split(1)),
    )
    states = [applied(chain(), data=form).state_dict() for form in forms]
    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())


def test_two_runs_give_the_same_bytes():
    loader = DataLoader(TensorDataset(images()), batch_size=4, shuffle=True)
    a, b = (applied(chain(), data=loader).state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_little_memory_gives_the_same():
    for model in (chain(), joined()):
        found, x = [], images(4, seed=7)
        for memory in (5e-4, 1e-9):  # batches are of 6 examples, the least, with both
            passes = [{"channel_prune": {"ratio": 0.25}}, {"refit": {"memory": memory}}]
            small = gfx.apply({"passes": passes}, model, images(6), data=images())
            found.append(small(x))
        assert distance(found[0], found[1]) < 1e-9


def test_no_data_is_an_error():
    with pytest.raises(RecipeError, match="refit needs data to look at"):
        gfx.apply({"passes": ["refit"]}, chain(), images(1))
    with pytest.raises(PreconditionError, match="it needs data to fit on"):
        Refit().apply(gfx.trace(chain(), images(1)), gfx.Context())


def test_an_original_that_is_not_known_is_an_error():
    with pytest.raises(PreconditionError, match="the original program is not known"):
        Refit().apply(gfx.trace(chain(), images(1)), gfx.Context(images()))


def test_one_example_is_an_error():
    with pytest.raises(PreconditionError, match="the data has 1 example, and one part of it is"):
        applied(chain(), data=images(1))


def test_too_little_data_names_the_layer_and_what_it_needs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 4)).to(F64).eval()
    x = torch.randn(16, 6, dtype=F64)
    recipe = {"passes": [{"channel_prune": {"ratio": 0.25}}, "refit"]}
    text = (
        "refit: 2 has 31 unknowns for each of its outputs, and the 12 examples to fit on give 12 "
        "positions; give at least 42 examples"
    )
    with pytest.raises(PreconditionError, match=text):
        gfx.apply(recipe, model, x[:1], data=x)
    gfx.apply(recipe, model, x[:1], data=torch.randn(42, 6, dtype=F64))


class Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 40, 3, padding=1)
        self.gate = nn.Conv2d(40, 40, 1)
        self.to_rgb = nn.Conv2d(40, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.to_rgb(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))))


def test_a_small_layer_with_too_little_data_is_left_where_others_have_enough():
    torch.manual_seed(0)
    model, x = Squeezed().to(F64).eval(), torch.randn(16, 3, 16, 16, dtype=F64)
    recipe = {"passes": [{"channel_prune": {"ratio": 0.25}}, "refit"]}
    done = gfx.report(gfx.apply(recipe, model, x[:1], data=x)).passes[1]
    assert done.details["held_out"]["after"] < done.details["held_out"]["before"]
    skips = {skip.node: skip.why for skip in done.skips}
    assert skips["gate"].startswith(
        "too little data: it has 31 unknowns for each of its outputs, and the 12 examples to fit "
        "on give 12 positions; give at least 42 examples"
    )


def test_activations_that_are_not_finite_name_the_layer():
    x = images()
    x[3, 0, 0, 0] = float("nan")
    with pytest.raises(PreconditionError, match="the activations at 0 are not finite"):
        applied(chain(), data=x)
    x = images()
    x[-1, 0, 0, 0] = float("inf")
    with pytest.raises(PreconditionError, match="not finite at input_1"):
        applied(chain(), data=x)


def test_layers_that_are_not_named_are_skipped():
    report = refitted(chain(), targets=["6"])
    assert [c.node for c in report.changes] == ["6"]
    assert {s.node: s.why for s in report.skips}["2"] == "targets does not name it"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"ridge": -1.0}, "ridge=-1.0 must be at least 0 and finite"),
        ({"held_out": 1.0}, "held_out=1.0 must be above 0 and below 1"),
        ({"examples": 1}, "examples=1 must be at least 2"),
        ({"rounds": 0}, "rounds=0 must be between 1 and 100000"),
        ({"relu": -1}, "relu=-1 must be at least 0"),
        ({"positions": 0.5}, "positions=0.5 must be at least 1"),
        ({"memory": 0.0}, "memory=0.0 must be above 0"),
    ],
)
def test_fields_out_of_range_are_refused(fields, text):
    with pytest.raises(RecipeError, match=text):
        Refit(**fields)


def test_the_laws_of_every_pass_hold():
    assert len(check_pass(Refit()).accepted) == 4


class Joined(nn.Module):
    """Adds a branch to its input, and calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 12, 3, padding=1)
        self.b = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu_()
        x = x + self.norm(self.b(torch.relu(self.a(x))))
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        return self.head(x)


def joined() -> nn.Module:
    torch.manual_seed(0)
    model = Joined().to(F64).eval()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model


def test_sums_and_shared_layers_are_repaired():
    report = refitted(joined(), data=images(48))
    held = report.details["held_out"]
    assert held["after"] < 0.9 * held["before"]
    assert {"b", "twice", "head"} <= {c.node for c in report.changes}


def test_a_branch_makes_up_for_what_the_other_lacks():
    """The stem is broken by hand; only the branch is refitted, and knows of it by the sum."""
    program = gfx.trace(joined(), images(1))
    original = program.copy()
    program.module.get_submodule("stem").weight.data[:2] *= 0.5
    outcome = Refit(targets=("b",)).apply(program, gfx.Context(images(48), original))
    held = outcome.details["held_out"]
    assert held["after"] < held["before"]


def test_errors_of_the_data_are_gfx_errors():
    for data in ([], torch.zeros(4, 5, 8, 8, dtype=F64), 3):
        with pytest.raises(GfxError):
            applied(chain(), data=data)


@pytest.mark.parametrize("verify", [True, False])
def test_it_writes_nothing_on_the_model_and_shares_no_memory_with_it(verify: bool) -> None:
    model = chain(norm=True)
    state = model.state_dict()
    before = {name: x.clone() for name, x in state.items()}
    versions = [x._version for x in state.values()]
    passes = [{"channel_prune": {"ratio": 0.25}}, "refit"]
    small = gfx.apply({"passes": passes}, model, images(1), data=images(), verify=verify)
    assert gfx.report(small).passes[-1].changes
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert [x._version for x in model.state_dict().values()] == versions
    places = {x.untyped_storage().data_ptr() for x in model.state_dict().values()}
    assert not {x.untyped_storage().data_ptr() for x in small.state_dict().values()} & places
