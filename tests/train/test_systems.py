"""Recipes with stages: what they may say, and what is said of those that are wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gfx
from gfx.errors import RecipeError
from gfx.io.shipped_recipes import shipped_systems
from gfx.io.yaml_text import parse
from gfx.train.systems import RunLength, load_system, presets_of
from gfx.train.systems.run_length import StepCount
from gfx.train.terms import terms
from support.laws import law

PUBLISHED = sorted((Path(__file__).parents[1] / "data" / "systems").glob("*.yaml"))
FIT = {"losses": {"l1": 1}}


def system(**stage):
    return {"stages": {"one": {"fit": FIT, **stage}}}


@pytest.mark.parametrize("name", shipped_systems())
def test_systems_that_ship_are_read_back_as_they_are(name):
    for preset in (None, *presets_of(name)):
        made = load_system(name, preset)
        made.refuse_unrunnable()
        assert load_system(made.spec()) == made
        assert load_system(parse(made.to_yaml(), name)) == made


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_grammar_holds_the_published_systems(path):
    made = load_system(path)
    assert load_system(made.spec()) == made
    for stage in made.stages:
        stage.recipe(1000, seed=0)  # every pass and its fields


def test_a_system_that_this_version_does_not_run_is_refused_before_anything(tmp_path):
    path = next(path for path in PUBLISHED if path.stem == "ugc")
    with pytest.raises(RecipeError, match=r"search: pick: .* this version of gfx reads it"):
        gfx.compress(path, gfx.zoo.build("dcgan", ngf=4), data=tmp_path)


def test_a_budget_takes_the_place_of_that_of_the_search_else_of_the_passes():
    limit = {"params": "2M"}
    searched = load_system("gan-compression").with_budget(limit)
    changed = [s.name for s in searched.stages if s != load_system("gan-compression").stage(s.name)]
    assert (changed, searched.stage("search").search.budget) == (["search"], limit)
    passes = system(do=["channel_prune"], budget={"macs": 0.5})
    assert load_system(passes).with_budget(limit) == load_system(
        system(do=["channel_prune"], budget=limit)
    )
    with pytest.raises(RecipeError, match="no stage of this recipe has a search or a budget"):
        load_system("gan-compression-distill").with_budget(limit)
    with pytest.raises(RecipeError, match="macs is 'lots', which is no positive number"):
        searched.with_budget({"macs": "lots"})


def test_presets_replace_fields_and_lengths():
    plain = load_system("gan-compression-distill").stages[0].fit
    horse = load_system("gan-compression-distill", "horse2zebra").stages[0].fit
    assert (str(plain.length), str(horse.length)) == ("5+15", "100+100")
    assert [(t.name, t.weight) for t in horse.losses] == [
        ("gan", 1.0),
        ("recon", 10.0),
        ("taps", 0.01),
    ]
    assert horse.losses[0].kind == "lsgan"
    recipe = {**system(), "presets": {"short": {"one": {"fit": {"steps": 3}}}}}
    assert load_system(recipe, "short").stages[0].fit.length == RunLength(3, unit="steps")


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("horse2zebr", "there is no preset 'horse2zebr'; did you mean 'horse2zebra'"),
        ("x", "there is no preset 'x'"),
    ],
)
def test_unknown_presets_are_named(preset, said):
    with pytest.raises(RecipeError, match=said):
        load_system("gan-compression-distill", preset)


def test_a_recipe_without_presets_says_so():
    with pytest.raises(RecipeError, match="has no presets; leave preset='fast' out"):
        load_system(system(), "fast")


WRONG = {
    "no mapping": ([], "a system is a path"),
    "no stages": ({}, "stages is a mapping of names to stages, at least one"),
    "passes": ({"passes": []}, "nothing of it trains; run it by gfx.apply"),
    "unknown key": ({"stage": {}, "stages": {}}, "unknown key 'stage'; did you mean 'stages'"),
    "empty stage": ({"stages": {"a": {}}}, "has neither `do` nor `fit` nor `search`"),
    "stage key": (system(fits={}), "unknown key 'fits'; did you mean 'fit'"),
    "name": ({"stages": {"1a": {"fit": FIT}}}, "give letters, digits"),
    "given": ({"stages": {"given": {"fit": FIT}}}, "which is the model as it was given"),
    "keep": ({"stages": {"a": {"do": ["fold_masks"], "keep": "best"}}}, "judges what a `fit`"),
    "keep word": (system(keep="bets"), "keep: expected one of 'last', 'best', 'if_better'"),
    "do": (system(do="half"), "do is a list of passes"),
    "fit": (system(fit=3), "a mapping with `losses` is expected"),
    "no loss": (system(fit={"losses": {}}), "losses is empty"),
    "term": (system(fit={"losses": {"l2": 1}}), "losses: unknown term 'l2'"),
    "weight": (system(fit={"losses": {"l1": -1}}), "l1: weight=-1.0 must be at least 0"),
    "word": (system(fit={"losses": {"gan": "hing"}}), "kind: expected one of 'hinge'"),
    "no word": (system(fit={"losses": {"l1": "x"}}), "give a weight or fields, not 'x'"),
    "field": (system(fit={"losses": {"taps": {"bais": True}}}), "did you mean 'bias'"),
    "fit field": (system(fit={**FIT, "epoch": 3}), "unknown field 'epoch'; did you mean 'epochs'"),
    "both": (system(fit={**FIT, "epochs": 3, "steps": 3}), "epochs and steps both say how long"),
    "length": (system(fit={**FIT, "epochs": "five"}), "epochs is 'five'; give a number"),
    "nothing": (system(fit={**FIT, "steps": 0}), "train for more than 0 steps"),
    "share": (system(fit={**FIT, "epochs": "5%"}), "epochs is '5%'; give a number"),
    "batch": (system(fit={**FIT, "batch": 0}), "batch=0 must be between 1"),
    "ema": (system(fit={**FIT, "ema": 1}), "ema=1.0 must be at least 0 and below 1"),
    "lr": (system(fit={**FIT, "lr": 0}), "lr=0.0 must be above 0"),
    "every": (system(fit={**FIT, "every": {"critic": 2}}), "there is no player 'critic'"),
    "teacher": (system(fit={**FIT, "teacher": "two"}), "its teacher is 'two', no stage before it"),
    "online": (
        system(fit={**FIT, "teacher": {"stage": "given", "online": True}}),
        "learns, and needs losses",
    ),
    "no teacher": (
        system(fit={"losses": {"taps": 1}}),
        "compares with a teacher, and there is none",
    ),
    "no critic": (
        system(fit={"losses": {"gan": "hinge"}, "discriminator": "none"}),
        "goes through the discriminator, and discriminator is none",
    ),
    "critic": (system(fit={**FIT, "discriminator": "inherits"}), "discriminator"),
    "like": (system(fit={"like": "two"}), "like: 'two' is no stage before it"),
    "search": (system(search={"bye": 1}), "search: unknown field 'bye'; did you mean 'by'"),
    "version": ({"recipe": 2, **system()}, "recipe version 2 is unknown"),
    "seed": ({"seed": -1, **system()}, "seed is -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_systems_say_where_and_what(case):
    data, said = WRONG[case]
    with pytest.raises(RecipeError) as caught:
        load_system(data)
    assert said in str(caught.value)


def test_names_of_recipes_and_systems_lead_to_their_verbs():
    with pytest.raises(RecipeError, match=r"run it by gfx\.compress"):
        gfx.Recipe.load("gan-compression-distill")
    with pytest.raises(RecipeError, match=r"run it by gfx\.apply"):
        load_system("half")
    with pytest.raises(RecipeError, match="did you mean 'gan-compression-distill'"):
        load_system("gan-compression-distil")


def test_a_fit_like_another_takes_its_fields():
    fit = {"losses": {"l1": 2}, "batch": 7, "epochs": 3}
    made = load_system(
        {"stages": {"a": {"fit": fit}, "b": {"fit": {"like": "a", "steps": 5, "ema": 0.5}}}}
    )
    first, second = (stage.fit for stage in made.stages)
    assert (second.batch, second.losses, second.ema) == (7, first.losses, 0.5)
    assert (str(second.length), second.length.unit) == ("5", "steps")


def test_shares_of_the_fit_become_steps():
    made = load_system(system(do=[{"mask": {"begin": "10%", "end": "50%"}}])).stages[0]
    pass_ = made.recipe(200, seed=0).passes[0]
    assert (pass_.begin, pass_.end) == (20, 100)


@law(60)
@given(
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(1, 50),
    st.sampled_from([1, 0.5, 0.1, 0.001]),
)
def test_lengths_scale_alike_and_leave_one_step(constant, falling, per_epoch, scale):
    if not constant + falling:
        return
    length = RunLength.read(f"{constant}+{falling}", "epochs")
    whole, short = length.steps(per_epoch), length.steps(per_epoch, scale=scale)
    assert whole == StepCount(constant * per_epoch, falling * per_epoch)
    assert short.total >= 1
    assert abs(short.total - whole.total * scale) <= 1
    rates = [short.rate(step) for step in range(short.total)]
    assert rates == sorted(rates, reverse=True)
    assert all(0 < rate <= 1 for rate in rates)


def test_a_share_of_the_teacher_s_steps_needs_a_teacher_that_was_trained():
    length = RunLength.read("5%", "steps")
    assert length.steps(10, teacher=2000).total == 100
    with pytest.raises(RecipeError, match="which no stage of this recipe trains"):
        length.steps(10)


def test_every_term_is_documented_with_its_source():
    for name, term in terms().items():
        assert term.name == name
        assert "Source:" in str(term.__doc__), name
