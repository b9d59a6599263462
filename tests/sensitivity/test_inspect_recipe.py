"""The recipe that findings turn into does what it says, and keeps the budget."""

import pytest
import torch
from torch import nn

import gfx
from gfx.pipeline.recipe import Recipe
from gfx.sensitivity.prune_fields import narrowing
from gfx.sensitivity.to_recipe import recipe_text
from support.sensitivity_tables import generator, image, table

X = image()


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4, 0.15])
def test_the_budget_is_kept_and_the_recipe_reads_back(share, tmp_path):
    made = table().recipe({"macs": share})
    (tmp_path / "a.yaml").write_text(recipe_text(made))
    again = Recipe.load(tmp_path / "a.yaml")
    assert again == made
    small = gfx.apply(again, generator())
    whole = gfx.cost(generator(), X).macs.exact
    assert gfx.cost(small, X).macs.exact <= share * whole
    assert small(X).shape == (1, 3, 16, 16)


def test_a_larger_budget_does_no_more_expected_damage():
    damages = []
    for share in (0.2, 0.4, 0.6, 0.8):
        small = gfx.apply(table().recipe({"macs": share}), generator())
        with torch.no_grad():
            damages.append(float((small(X) - generator()(X)).norm() / generator()(X).norm()))
    assert damages[0] > damages[-1]


@pytest.mark.parametrize(
    "budget", [{"params": 0.5}, {"macs": {"limit": 0.5, "convention": "output"}, "params": 0.6}]
)
def test_other_budgets_are_kept_too(budget):
    small = gfx.apply(table().recipe(budget), generator())
    before, after = gfx.cost(generator(), X), gfx.cost(small, X)
    assert after.params <= 0.6 * before.params
    if "macs" in budget:
        assert after.macs.output <= 0.5 * before.macs.output


def test_without_a_budget_the_recommendations_are_followed():
    made = table().recipe()
    prune, decompose = made.passes
    advised = {row.layer: row for row in table() if row.choice is not None}
    layers = [name for name, row in advised.items() if row.choice == "decompose"]
    assert list(decompose.layers) == layers
    narrow = {row.group: row.widths[row.choice] for row in advised.values() if row.group != "down"}
    narrow = {name: n for name, n in narrow.items() if advised[name].choice != "decompose"}
    assert prune.widths == narrow
    small = gfx.apply(made, generator())
    for name, left in narrow.items():
        assert small.get_submodule(name).weight.shape[name == "up"] == left


def test_what_cannot_be_met_is_told_with_the_least_that_can():
    with pytest.raises(gfx.BudgetError, match=r"the least that they reach is [\d.]+ K; raise"):
        table().recipe({"macs": 1e-4})
    with pytest.raises(gfx.InputError, match="every layer is recommended to be left as it is"):
        table().filter(recommend="leave").recipe()
    with pytest.raises(gfx.RecipeError, match="did you mean 'macs'"):
        table().recipe({"mac": 0.5})


def test_only_layers_that_were_inspected_are_touched():
    made = table().filter(layer="up").recipe({"macs": 0.9})
    (only,) = made.passes
    assert set(only.layers if only.name == "decompose" else only.widths) == {"up"}


def test_what_is_removed_is_what_was_measured():
    row = table()["block.conv1"]
    groups = gfx.channels(generator(), X)
    half = {row.group: groups[row.group].size // 2}
    only = {"passes": [{"channel_prune": narrowing(groups, half)}]}
    again = gfx.inspect(generator(), X, data=[X], layers=row.layer)[row.layer]
    small = gfx.apply(only, generator(), X)
    with torch.no_grad():
        damage = (small(X) - generator()(X)).norm() / generator()(X).norm()
    assert float(damage) == pytest.approx(again.damage[0.5], rel=1e-4)
    saved = gfx.cost(generator(), X).macs.exact - gfx.cost(small, X).macs.exact
    assert saved == again.saved[0.5]


class Shared(nn.Module):
    """Two groups in one layer's output: widths alone would not say which channels go."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.left = nn.Conv2d(3, 12, 1), nn.Conv2d(6, 6, 1)
        self.last = nn.Conv2d(12, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.both(x).chunk(2, 1)
        return self.last(torch.cat([a + self.left(a), b], 1))


def test_channels_are_listed_where_a_width_does_not_say_which():
    torch.manual_seed(0)
    model = Shared().eval()
    model.both.weight.data[:6] *= 10  # by score alone, the other half would go first
    groups = gfx.channels(model, X)
    (group,) = [g for g in groups if "left" in g.producers]
    said = narrowing(groups, {group.name: 3})
    small = gfx.apply({"passes": [{"channel_prune": said}]}, model, X)
    assert small.get_submodule("left").out_channels == 3
    assert small.get_submodule("last").in_channels == 9


def test_a_path_that_looks_like_a_pattern_names_one_layer():
    torch.manual_seed(0)
    model = nn.Sequential()
    for name in ("a[1]", "a1"):
        model.add_module(name, nn.Conv2d(8, 8, 3, padding=1))
    x = torch.rand(1, 8, 6, 6)
    found = gfx.inspect(model.eval(), x, data=[x], tolerate=9.0, layers="a[[]1]", widths=())
    small = gfx.apply(found.recipe(), model, x)
    assert isinstance(small.get_submodule("a1"), nn.Conv2d)
    assert not isinstance(small.get_submodule("a[1]"), nn.Conv2d)


def test_parametrizations_are_folded_first():
    torch.manual_seed(0)
    model = generator()
    nn.utils.parametrizations.weight_norm(model.stem)
    made = gfx.inspect(model.eval(), X, data=[X]).recipe({"macs": 0.5})
    assert made.passes[0].name == "fold_parametrizations"
    small = gfx.apply(made, model)
    assert gfx.cost(small, X).macs.exact <= 0.5 * gfx.cost(generator(), X).macs.exact
