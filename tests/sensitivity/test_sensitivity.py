"""The table of `gfx.inspect`: figures, recommendations, filters, plain data, every refusal."""

import json
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

import gfx
from gfx.errors import InputError, PreconditionError
from gfx.sensitivity import DECOMPOSE
from support.generators.register import built
from support.generators.register import inputs as inputs_of
from support.laws import law, renamed
from support.patterns import PATTERNS
from support.strategies import specs
from support.zoo_small import SMALL

KEYS = [DECOMPOSE, 0.75, 0.5, 0.25]


def resnet(seed=0, **options):
    torch.manual_seed(seed)
    options = {**SMALL["resnet_9blocks"], "n_blocks": 2, **options}
    return gfx.zoo.build("resnet_9blocks", **options).eval(), gfx.zoo.example_inputs(
        "resnet_9blocks", **options
    )


@pytest.fixture(scope="module")
def table():
    return gfx.inspect(*resnet())


def test_there_is_a_row_for_every_layer(table):
    model, _ = resnet()
    convs = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    assert {row.layer for row in table} == convs
    assert len(table) == len(convs)


def test_costs_are_those_of_the_cost_report(table):
    model, inputs = resnet()
    rows = {row.target: row for row in gfx.cost(model, inputs).nodes}
    for row in table:
        assert (row.macs, row.params) == (rows[row.layer].macs.exact, rows[row.layer].params)
        assert row.outputs == rows[row.layer].shape
    assert table.facts.macs == gfx.cost(model, inputs).macs.exact


@pytest.mark.parametrize("name", ["down.1.conv", "blocks.0.conv1", "up.0.conv"])
@pytest.mark.parametrize("width", [0.75, 0.5, 0.25])
def test_what_a_width_saves_and_damages_is_that_of_the_pruned_model(table, name, width):
    model, inputs = resnet()
    program = gfx.trace(model, inputs)
    row = table[name]
    small = gfx.apply(
        {"passes": [{"channel_prune": {"widths": {name: row.widths[width]}}}]}, model, inputs
    )
    assert (
        gfx.cost(model, inputs).macs.exact - gfx.cost(small, inputs).macs.exact == row.saved[width]
    )
    from gfx.io.data import synthetic

    damages = []
    for batch in synthetic(program, table.facts.batches):
        with torch.no_grad():
            a, b = model(*batch), small(*batch)
        damages.append(float((a - b).norm() / a.norm()))
    assert row.damage[width] == pytest.approx(sum(damages) / len(damages), rel=1e-4)


def test_stages_sum_up_their_layers(table):
    stages = {stage.stage: stage for stage in table.stages()}
    assert list(stages) == ["stem", "down", "body", "up", "head"]
    assert [stage.layers for stage in stages.values()] == [1, 2, 4, 2, 1]
    assert sum(stage.macs for stage in stages.values()) == sum(row.macs for row in table)
    assert stages["body"].damage[0.5] == pytest.approx(
        sum(row.damage[0.5] for row in table.filter(stage="body")) / 4
    )


def test_a_pinned_layer_says_why(table):
    row = table["to_rgb"]
    assert not row.free
    assert "output" in row.why
    assert row.damage[0.5] is None
    assert row.saved[0.5] is None
    assert row.notes[0.5] == row.why
    assert row.damage[DECOMPOSE] is not None


def test_layers_of_a_group_share_its_figures(table):
    a, b = table["down.1.conv"], table["blocks.1.conv2"]
    assert a.group == b.group
    for key in (0.75, 0.5, 0.25):
        assert (a.damage[key], a.saved[key]) == (b.damage[key], b.saved[key])


def test_rows_come_by_what_is_worth_doing(table):
    order = [(row.choice is None, -row.worth) for row in table]
    assert order == sorted(order)


def test_recommendations_stay_under_what_is_tolerated():
    model, inputs = resnet()
    for tolerate in (0.0, 0.3, 10.0):
        for row in gfx.inspect(model, inputs, tolerate=tolerate, layers=["blocks.*", "head"]):
            options = {
                k: s for k, s in row.saved.items() if s and (row.damage[k] or 1e9) <= tolerate
            }
            if not options:
                assert (row.recommend, row.choice) == ("leave", None)
                continue
            assert row.saved[row.choice] == max(options.values())
            said = "decompose" if row.choice == DECOMPOSE else f"narrow to {row.widths[row.choice]}"
            assert row.recommend == said


def test_tables_filter_and_sort(table):
    assert {row.stage for row in table.filter(stage=["up", "head"])} == {"up", "head"}
    assert len(table.filter(layer="blocks.*", kind="Conv2d")) == 4
    fixed = {row.layer: row.why for row in table.filter(lambda row: not row.free)}
    assert set(fixed) == {"stem.conv", "up.1.conv", "to_rgb"}
    assert "min_channels=4" in fixed["up.1.conv"]
    assert [row.macs for row in table.sort("macs")] == sorted(row.macs for row in table)
    assert table.sort(lambda row: row.layer, reverse=True)[0].layer == "up.1.conv"
    assert table.filter(stage="up").facts == table.facts
    with pytest.raises(TypeError, match="a row has no field 'stages'"):
        table.filter(stages="up")
    with pytest.raises(KeyError):
        table["nothing"]


def test_plain_data_survives_json(table):
    plain = table.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert [row["layer"] for row in plain["rows"]] == [row.layer for row in table]
    assert list(plain["rows"][0]["damage"]) == ["decompose", "0.75", "0.5", "0.25"]
    assert plain["facts"]["synthetic"] is True
    assert table.to_dicts() == plain["rows"]


def test_the_text_lists_every_layer_and_stage(table):
    text = str(table)
    for word in (*(row.layer for row in table), "stem", "body", "made up (seed 0)", "relative_l2"):
        assert word in text


def test_the_model_is_left_as_it_was():
    model, inputs = resnet()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    notes = gfx.inspect(model, inputs, batches=1).facts.notes
    assert notes == ("the model is in training mode; it was run in eval mode",)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_rows_do_not_depend_on_which_others_are_probed(table):
    model, inputs = resnet()
    part = gfx.inspect(model, inputs, layers=["up.1.conv", "blocks.0.*", "stem.conv"])
    assert len(part) == 4
    for row in part:
        assert row == table[row.layer]


def test_the_same_seed_gives_the_same_table(table):
    assert gfx.inspect(*resnet()) == table
    assert gfx.inspect(*resnet(), seed=1) != table


def test_names_do_not_change_the_figures(table):
    model, inputs = resnet()
    program, paths = renamed(gfx.trace(model, inputs))
    again = gfx.inspect(program)
    for row in table:
        assert again[paths[row.layer]].damage == row.damage
        assert again[paths[row.layer]].stage == row.stage


@pytest.mark.parametrize("name", SMALL)
def test_every_generator_of_the_zoo_is_inspected(name):
    torch.manual_seed(0)
    model = gfx.zoo.build(name, **SMALL[name])
    rows = gfx.inspect(model, gfx.zoo.example_inputs(name, **SMALL[name]), batches=1)
    assert len(rows) > 4
    for row in rows:
        for key in KEYS:
            assert (row.damage[key] is None) == (key in row.notes)
            assert (row.damage[key] is None) == (row.saved[key] is None)


def test_a_metric_may_be_better_when_higher():
    model, inputs = resnet()
    rows = gfx.inspect(model, inputs, metric="psnr", layers="blocks.*", batches=1)
    for row in rows:
        assert row.damage[0.5] == pytest.approx(10 ** (-row.value[0.5] / 20))
    assert rows.facts.higher_is_better


def test_any_function_is_a_metric():
    model, inputs = resnet()
    rows = gfx.inspect(
        model,
        inputs,
        metric=lambda a, b: (a - b).abs().max(),
        layers="up.0.*",
        batches=1,
        widths=[0.5],
    )
    assert rows.facts.metric == "<lambda>"
    assert all(0 < row.damage[0.5] < 2 for row in rows)


def test_the_users_data_is_run():
    model, inputs = resnet()
    data = [torch.rand(3, 3, 16, 16) for _ in range(4)]
    facts = gfx.inspect(model, inputs, data, layers="head", batches=2).facts
    assert (facts.synthetic, facts.batches, facts.examples) == (False, 2, 6)
    assert facts.inputs == ("ran on 2 batches of the data",)


def test_layers_are_globs_or_stages():
    model, inputs = resnet()
    rows = gfx.inspect(model, inputs, layers=["body", "to_*"], widths=(), batches=1)
    assert {row.stage for row in rows} == {"body", "head"}
    with pytest.raises(InputError, match=r"named 'up.0.cnv'; did you mean 'up.0.conv'\?"):
        gfx.inspect(model, inputs, layers="up.0.cnv")
    with pytest.raises(InputError, match=r"named 'blocks'; blocks.\* names the 4 inside it"):
        gfx.inspect(model, inputs, layers=["blocks"])


@pytest.mark.parametrize("fast", [False, True])
def test_decompositions_take_the_form_they_are_told(fast):
    model, inputs = resnet(image_size=32)
    layers = ["blocks.*", "down"]
    by_rank = [
        gfx.inspect(model, inputs, rank=rank, layers=layers, widths=(), batches=4, fast=fast)
        for rank in (1, 4, 9)
    ]
    for low, middle, full in zip(*(table.sort("layer") for table in by_rank), strict=True):
        assert full.damage[DECOMPOSE] < 1e-4 < middle.damage[DECOMPOSE] < low.damage[DECOMPOSE]
        assert low.saved[DECOMPOSE] > middle.saved[DECOMPOSE] > full.saved[DECOMPOSE]
    by_data = gfx.inspect(
        model, inputs, init="data", layers=layers, widths=(), batches=4, fast=fast
    )
    total = [sum(r.damage[DECOMPOSE] for r in table) for table in (by_data, by_rank[0])]
    assert total[0] < 0.95 * total[1]
    assert by_data.facts.form == "depthwise_separable, norm none, init data"


def test_too_few_inputs_to_fit_a_form_to_are_noted():
    rows = gfx.inspect(*resnet(), init="data", layers="body", widths=(), batches=1)
    for row in rows:
        assert row.damage[DECOMPOSE] is None
        assert row.layer in row.notes[DECOMPOSE]


class Called(nn.Module):
    """One convolution called twice, a functional one, and a linear."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = nn.functional.conv2d(x, self.weight, padding=1)
        return self.last(self.twice(self.twice(x)).permute(0, 2, 3, 1))


def test_shared_and_functional_layers_have_one_row_each():
    torch.manual_seed(0)
    rows = gfx.inspect(Called(), torch.randn(1, 3, 8, 8))
    assert {row.layer: row.calls for row in rows} == {"twice": 2, "weight": 1, "last": 1}
    assert rows["twice"].macs == 2 * 4 * 4 * 9 * 64
    assert rows["twice"].damage[DECOMPOSE] > 0
    assert rows["weight"].params == 4 * 3 * 9
    assert "not a torch.nn layer" in rows["weight"].notes[DECOMPOSE]
    assert "Linear" in rows["last"].notes[DECOMPOSE]


def test_a_model_without_layers_is_refused():
    with pytest.raises(InputError, match="Tanh has no convolution and no linear layer"):
        gfx.inspect(nn.Tanh(), torch.randn(1, 3, 8, 8))


def test_a_model_on_the_meta_device_is_refused():
    with torch.device("meta"):
        model = gfx.zoo.build("dcgan")
    with pytest.raises(PreconditionError, match="inspect runs the model, and DcganGenerator"):
        gfx.inspect(model)


@pytest.mark.parametrize("fast", [False, True])
def test_activations_that_are_not_finite_name_the_layer(fast):
    model, inputs = resnet()
    with torch.no_grad():
        model.down[1].conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"down\.1\.conv is the first to give values"):
        gfx.inspect(model, inputs, fast=fast)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"metric": "feature"}, "pass extractor="),
        ({"widths": (0.5, 1.5)}, "widths: 1.5 is no share"),
        ({"batches": 0}, "batches=0; at least one"),
        ({"tolerate": -1}, "tolerate=-1 must be at least 0"),
        ({"data": []}, "data gives no batch"),
        ({"data": torch.zeros(1, 4, 16, 16)}, "expected float32 of shape 1x3x16x16"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        gfx.inspect(*resnet(), **options)


def pattern(name):
    """Builds one of the patterns, or of the generators of others."""
    if name not in PATTERNS:
        import_module("support.generators.blocks")
        return built(name), inputs_of(name)
    torch.manual_seed(0)
    kind, shapes = PATTERNS[name]
    return kind().eval(), tuple(torch.randn(shape) for shape in shapes)


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for place, at in enumerate(order):
        found[at] = float(place)
    return torch.tensor(found)


def test_fast_ranks_as_measuring_does():
    model, inputs = resnet(ngf=8, image_size=32)
    exact, fast = gfx.inspect(model, inputs), gfx.inspect(model, inputs, fast=True)
    assert exact.facts.measured
    assert not fast.facts.measured
    pairs = [
        (row.damage[key], fast[row.layer].damage[key])
        for row in exact
        for key in KEYS
        if row.damage[key] is not None
    ]
    a, b = (ranks(list(values)) for values in zip(*pairs, strict=True))
    assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.8
    for row in exact:
        assert (row.saved, row.notes) == (fast[row.layer].saved, fast[row.layer].notes)


def test_fast_is_exact_where_the_output_is_linear_in_what_changes():
    # one place and one output number: vᵀJΔ is the change itself, up to its sign
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 1)).double()
    data = [torch.randn(1, 6, dtype=torch.float64) for _ in range(4)]
    exact, fast = (gfx.inspect(model, data[0], data, fast=fast) for fast in (False, True))
    for key in (0.75, 0.5, 0.25):
        assert fast["0"].damage[key] == pytest.approx(exact["0"].damage[key], rel=1e-9)


def test_fast_of_a_layer_that_writes_the_output_is_near_the_exact_change():
    model, inputs = resnet(image_size=64)
    (exact,) = gfx.inspect(model, inputs, layers="to_rgb")
    (fast,) = gfx.inspect(model, inputs, layers="to_rgb", fast=True)
    assert fast.damage[DECOMPOSE] == pytest.approx(exact.damage[DECOMPOSE], rel=0.5)


@pytest.mark.parametrize("name", SMALL)
def test_fast_takes_every_generator_of_the_zoo(name):
    torch.manual_seed(0)
    model = gfx.zoo.build(name, **SMALL[name]).train()
    rows = gfx.inspect(model, gfx.zoo.example_inputs(name, **SMALL[name]), batches=1, fast=True)
    assert model.training
    for row in rows:
        assert all((row.damage[key] is None) == (key in row.notes) for key in KEYS)


def test_fast_takes_batches_of_other_sizes_and_writes_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 3, 3, padding=1)
    )
    data = [torch.randn(5, 3, 12, 12), torch.randn(2, 3, 8, 8)]
    rows = gfx.inspect(model, torch.randn(1, 3, 8, 8), data, fast=True)
    assert all(row.damage[DECOMPOSE] > 0 for row in rows)


@pytest.mark.parametrize("name", ["WindowMLP", "WrittenKernels"])
def test_fast_takes_windows_and_computed_kernels(name):
    model, inputs = pattern(name)
    for row in gfx.inspect(model, inputs, fast=True, batches=1):
        assert all((row.damage[key] is None) == (key in row.notes) for key in KEYS)


@law(4, swept=8)
@given(specs(approximate=True))
def test_random_generators_are_inspected(spec):
    model, inputs = spec.build()
    exact = gfx.inspect(model, inputs, batches=1, widths=(0.5,))
    fast = gfx.inspect(model, inputs, batches=1, widths=(0.5,), fast=True)
    part = gfx.inspect(model, inputs, batches=1, widths=(0.5,), layers=exact[0].layer)
    assert part[exact[0].layer] == exact[0]
    assert {row.layer for row in fast} == {row.layer for row in exact}


class Written(nn.Module):
    """Writes over a part of what an activation gave, which its gradient needs, or joins parts."""

    def __init__(self, act, how):
        super().__init__()
        torch.manual_seed(0)
        self.act, self.how = act, how
        self.first, self.own = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        x = self.act(self.first(x))
        part = self.own(x[:, :2])
        if self.how == "joined":
            x = torch.cat([self.act(part), x[:, 2:]], 1)
        elif self.how == "over":
            x = x.clone()
            x[:, :2] = self.act(part)
        elif self.how == "within":
            x = x.clone()
            x[:, :2].copy_(self.act(part))
        else:
            x = x * 1
            x[:, :2] -= x[:, :2] - self.act(part)
        return torch.tanh(self.last(x))


@pytest.mark.parametrize("how", ["over", "within", "added"])
@pytest.mark.parametrize("act", [torch.tanh, torch.sigmoid, torch.relu, F.silu, torch.exp])
def test_what_is_written_in_place_has_the_damage_of_what_is_joined(act, how):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for fast in (False, True):
        one, other = (
            gfx.inspect(Written(act, way).eval(), x, widths=(0.5,), fast=fast)
            for way in ("joined", how)
        )
        assert [row.layer for row in one] == [row.layer for row in other]
        for a, b in zip(one, other, strict=True):
            shared = a.damage.keys() & b.damage.keys()
            assert DECOMPOSE in shared
            for key in shared:
                if a.damage[key] is not None and b.damage[key] is not None:
                    assert b.damage[key] == pytest.approx(a.damage[key], rel=1e-3, abs=1e-7)


def test_fast_ranks_by_relative_l2_alone():
    with pytest.raises(InputError, match="fast ranks by relative_l2, and metric is psnr"):
        gfx.inspect(*resnet(), metric="psnr", fast=True)


class CutOff(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)

    def forward(self, x):
        return self.b(self.a(x)).detach()


def test_fast_says_where_no_gradient_flows():
    with pytest.raises(PreconditionError, match="no gradient flows from the model's output"):
        gfx.inspect(CutOff(), torch.randn(1, 3, 8, 8), fast=True)


def test_spectral_norms_are_folded_before():
    torch.manual_seed(0)
    model = gfx.zoo.build("sagan", ngf=8)
    table = gfx.inspect(model, batches=1)
    assert table.facts.needs == ("fold_parametrizations",)
    assert any("put fold_parametrizations before" in note for note in table.facts.notes)
    assert table["up.0.conv"].damage[DECOMPOSE] > 0
    assert table["up.0.conv"].free
    assert any("parametrizations" in name for name, _ in model.named_parameters())


def test_a_metric_that_does_not_suit_the_output_is_refused():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    with pytest.raises(InputError, match=r"metric psnr needs images .* has shape 1x4"):
        gfx.inspect(model, torch.randn(1, 4), metric="psnr")


class Spoilt(nn.Module):
    """Divides by what is 0 once all but a few channels are gone."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1, bias=False)

    def forward(self, x):
        return 1 / self.b(self.a(x))


def test_a_change_that_spoils_the_output_is_noted():
    model = Spoilt()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1)
        model.b.weight[:, 4:6], model.b.weight[:, 6:] = 2, -2  # half the width adds up to 0
    table = gfx.inspect(model, torch.ones(1, 3, 4, 4))
    assert table["a"].damage[0.75] is not None
    assert table["a"].damage[0.5] is None
    assert "the output is not finite" in table["a"].notes[0.5]


SHARDED = """
import json, os, sys, torch
import gfx
from gfx import zoo
rank, inputs = os.environ["RANK"], zoo.example_inputs("resnet_9blocks", image_size=16)

def table(seed):
    torch.manual_seed(seed)
    model = zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16).eval()
    return gfx.inspect(model, inputs, batches=2, layers=["down", "head"]).to_dict()

told = {"table": table(0), "again": table(0), "left": torch.distributed.is_initialized()}
try:
    table(int(rank))
except gfx.InputError as error:
    told["other"] = str(error)
torch.distributed.init_process_group("gloo")  # one that is there already is used, and left
told["joined"], told["still"] = table(0), torch.distributed.is_initialized()
torch.distributed.destroy_process_group()
json.dump(told, open(f"{sys.argv[1]}/{rank}.json", "w"))
"""


def test_two_processes_give_the_table_of_one(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run([*run, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = gfx.inspect(*resnet(), batches=2, layers=["down", "head"]).to_dict()
    for rank in "01":
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["table"] == told["again"] == told["joined"] == alone
        assert (told["left"], told["still"]) == (False, True)
        assert "the 2 processes do not inspect the same" in told["other"]


def test_the_shell_runs_as_a_module():
    command = [sys.executable, "-m", "gfx", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("gfx ")
