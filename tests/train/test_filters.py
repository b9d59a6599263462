"""Which examples a step sees, which of them count, and whose targets are used."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gfx.errors import InputError, RecipeError
from gfx.io.yaml_text import parse
from gfx.reports.run.resume_command import command_of
from gfx.reports.run.run_facts import run_facts
from gfx.train.filters import Filter
from gfx.train.systems import load_system
from support.installed_kinds import install
from support.training_runs import (
    DISTIL,
    Bright,
    Patch,
    compressed,
    cycled,
    files_of,
    generator,
    own_loop,
    pairs,
    state_of,
    two_sets,
)

GUIDED = {"losses": {"mimic": 1}, "teacher": "given"}


def recipe(data=None, share=None, **fit):
    held = {"losses": {"l1": 1}, "discriminator": "none", "batch": 2, "steps": 4, **fit}
    made = {"stages": {"one": {"fit": held | ({"data": data} if data else {})}}}
    return made if share is None else {"data": {"labelled": share}, **made}


def seen(player):
    return [key for batch in player.batches() for key in batch.keys]


def trained(player):
    """Takes all steps; returns the weights and the terms of the last."""
    for batch in player.batches():
        terms = player.loss(batch)
        player.step()
    return state_of(player.net), terms


# shares of labels


def test_a_share_of_a_recipe_is_that_of_the_command(tmp_path):
    said = recipe("labelled", share=0.25)
    one = compressed(said, val=0, run=tmp_path / "one")
    other = compressed(recipe("labelled"), labels=0.25, val=0, run=tmp_path / "other")
    assert state_of(one.model) == state_of(other.model)
    assert any("3 of 12 pairs keep their targets" in each for each in one.assumed)
    texts = [(tmp_path / n / "recipe.yaml").read_text("utf-8") for n in ("one", "other")]
    assert texts[0] == texts[1]
    # given in both ways it is the same command, and goes on in the same folder
    assert compressed(said, labels=0.25, val=0, run=tmp_path / "one").finished
    assert "--labels 0.25" in command_of(run_facts(tmp_path / "one"))


def test_a_share_of_the_command_takes_the_place_of_the_recipe_s(tmp_path):
    made = compressed(recipe("labelled", share=0.25), labels=0.5, val=0, run=tmp_path / "run")
    assert any("6 of 12 pairs keep their targets" in each for each in made.assumed)
    written = parse((tmp_path / "run" / "recipe.yaml").read_text("utf-8"), "recipe")
    assert (written["data"], written["run"]["labels"]) == ({"labelled": 0.5}, 0.5)
    with pytest.raises(InputError, match=r"data.labelled: was 0.5, now 0.25"):
        compressed(recipe("labelled", share=0.25), val=0, run=tmp_path / "run")
    whole = load_system(recipe(share=0.25)).with_labels(1.0)
    assert (whole.data, whole.labels) == ({}, 1.0)
    with pytest.raises(RecipeError, match="labels=0 must be above 0 and at most 1"):
        compressed(recipe(), labels=0)


def test_a_share_of_labels_holds_in_a_loop_of_one_s_own():
    asked = recipe("labelled", share=0.25)
    assert len(set(seen(own_loop(asked)))) <= 6  # three pairs, flipped or not
    assert seen(own_loop(asked)) == seen(own_loop(recipe("labelled"), labels=0.25))


def test_a_share_of_labels_is_refused_where_there_are_none():
    with pytest.raises(InputError, match=r"in a recipe \{labelled: \.\.\.\} under `data`"):
        compressed(recipe(share=0.5, losses={"mimic": 1}, teacher="given"), data=pairs()[0])


# which examples a step sees


def test_a_step_sees_labelled_examples_alone_or_the_others():
    labelled = own_loop(recipe("labelled", share=0.5))
    rest = own_loop(recipe("unlabelled", share=0.5, **GUIDED))
    both = own_loop(recipe("all", share=0.5, **GUIDED))
    ours, theirs = ({key.rstrip("f-") for key in seen(each)} for each in (labelled, rest))
    assert ours
    assert theirs
    assert not ours & theirs
    assert all(batch.labelled.all() for batch in labelled.batches())
    assert not any(batch.labelled.any() for batch in rest.batches())
    assert len(set(seen(both))) > 4


def test_an_epoch_is_one_of_the_examples_that_a_stage_sees():
    made = {"losses": {"l1": 1}, "discriminator": "none", "batch": 2, "data": "labelled"}
    system = {"stages": {"one": {"fit": {**made, "epochs": 2}}}}
    assert own_loop(system, labels=0.5).steps.total == 6
    assert own_loop(system).steps.total == 12


@pytest.mark.parametrize("data", [None, "all", "labelled"])
def test_where_all_have_targets_labelled_examples_are_all(data):
    states = [trained(own_loop(recipe(each)))[0] for each in (None, data)]
    assert states[0] == states[1]


def test_a_filter_is_read_back_and_inherited_by_like():
    first = recipe("labelled", share=0.25)
    fit = {"like": "one", "data": "all"}
    system = load_system({**first, "stages": {**first["stages"], "two": {"fit": fit}}})
    assert system.spec()["stages"]["one"]["fit"]["data"] == {"labelled": {}}
    assert [stage.fit.data for stage in system.stages] == [gfx_labelled(), None]
    assert load_system(system.spec()) == system
    fit.pop("data")
    again = load_system({**first, "stages": {**first["stages"], "two": {"fit": fit}}})
    assert again.stages[1].fit.data == gfx_labelled()


def gfx_labelled():
    from gfx.train.filters import Labelled

    return Labelled()


@pytest.mark.parametrize(
    ("fit", "data", "said"),
    [
        ({"data": "labeled"}, None, "data: unknown filter 'labeled'; did you mean 'labelled'"),
        ({"data": "al"}, None, "did you mean 'all'"),
        ({"data": ["labelled"]}, None, "the name of a filter is expected"),
        ({"data": {"labelled": {"share": 1}}}, None, "labelled: unknown field 'share'"),
        ({"data": "adaptive"}, None, "fit: data: adaptive: this version of gfx does not have"),
        ({"data": "unlabelled"}, None, "every example has its target; give a share of labels"),
        (
            {"data": "unlabelled"},
            0.5,
            "the term l1 compares with the ground truth, and the examples of `data: unlabelled` "
            "have none; take recon with a teacher",
        ),
        (
            {},
            0.5,
            "the term l1 compares with the ground truth, and some examples have none; give the "
            "fit `data: labelled`",
        ),
        (
            {"losses": {"gan": "hinge"}, "discriminator": "given"},
            0.5,
            "the term gan compares with real images, and some examples have none; give the fit "
            "`data: labelled`",
        ),
        (
            {"losses": {"gan": "hinge"}, "discriminator": "given", "data": "unlabelled"},
            0.5,
            "the task paired has none among the examples of the stage",
        ),
        (
            {"losses": {"recon": 1}, "data": "unlabelled"},
            0.5,
            "the term recon compares with the ground truth or a teacher, and there is neither",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", [0, 3])
def test_what_does_not_fit_is_refused_before_the_first_step(fit, data, said, seed, tmp_path):
    with pytest.raises((InputError, RecipeError)) as caught:
        compressed(recipe(share=data, **fit), val=0, seed=seed, run=tmp_path / "run")
    assert said in str(caught.value)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_task_that_does_not_ask_for_targets_has_no_labelled_examples():
    with pytest.raises(InputError, match="the task self does not ask which examples have"):
        compressed(recipe("labelled", **GUIDED), data=pairs()[0])


def test_recon_takes_the_truth_of_each_example_that_has_one():
    x, y = pairs()
    fit = {"losses": {"recon": 1}, "teacher": "given", "batch": 12, "steps": 1}
    player = own_loop(recipe(share=0.5, **fit), flip=False)
    (batch,) = player.batches()
    assert int(batch.labelled.sum()) == 6
    image, made = player.net(batch.tensors["x"]), generator()(batch.tensors["x"])
    wanted = torch.where(batch.labelled.view(-1, 1, 1, 1), batch.tensors["y"], made.detach())
    terms = player.loss(batch)
    by_hand = (image.detach() - wanted).abs().mean()
    assert float(terms["recon"]) == pytest.approx(float(by_hand), rel=1e-5)
    assert x.shape == y.shape


# which of them count


@dataclass(frozen=True)
class Judged(Filter):
    """Counts labelled examples, and those whose images the discriminator takes for better."""

    name: ClassVar[str] = "judged"
    needs: ClassVar[frozenset[str]] = frozenset({"discriminator", "teacher"})

    def counts(self, values):
        said = values.scores_of_fake.flatten(1).mean(1)
        theirs = values.teachers[0].scores.flatten(1).mean(1)
        return values.labelled | (said >= theirs.median())


@dataclass(frozen=True)
class Silent(Filter):
    """Asks for a discriminator, and does not say so."""

    name: ClassVar[str] = "silent"

    def counts(self, values):
        return values.scores_of_fake.flatten(1).mean(1) > 0


@dataclass(frozen=True)
class Odd(Filter):
    """Returns what is no answer."""

    name: ClassVar[str] = "odd"

    def counts(self, values):
        return values.image.mean()


@dataclass(frozen=True)
class Never(Filter):
    """Leaves nothing."""

    name: ClassVar[str] = "never"

    def examples(self, task):
        return task.part([])


@pytest.fixture
def installed(monkeypatch):
    install(monkeypatch, filters=(Bright, Judged, Silent, Odd, Never))


FULL = {
    "teacher": "given",
    "taps": "auto",
    "losses": {"gan": "hinge", "l1": 10, "taps": 1, "mimic": 1},
    "discriminator": "given",
    "batch": 12,
    "steps": 3,
}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("order", ["together", "discriminator_first"])
def test_examples_that_do_not_count_add_nothing_and_the_others_as_much_as_ever(order):
    fit = {**FULL, "order": order}
    player = own_loop(recipe({"bright": {"above": 0.02}}, **fit), flip=False)
    (batch, *_) = player.batches()
    counts = batch.tensors["x"].flatten(1).mean(1) > 0.02
    some = int(counts.sum())
    assert 0 < some < 12
    other = own_loop(recipe(**fit), flip=False)
    terms = player.loss(batch)
    assert float(terms["counted"]) == pytest.approx(some / 12)
    # by hand: the part alone, times its share of the step
    logged = other._step.begin(0, 1.0)
    other._step.loss(batch.where(counts), some / 12, logged)
    if order == "discriminator_first":
        player.step()
        other._step.step(logged)
    for ours, theirs in ((player.net, other.net), (player.critic, other.critic)):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            if p.grad is None:
                assert q.grad is None
            else:
                torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.net.parameters())


@pytest.mark.usefixtures("installed")
def test_all_that_count_are_the_step_without_a_filter():
    every = trained(own_loop(recipe({"bright": {"above": -9}}, **FULL)))[0]
    assert every == trained(own_loop(recipe(**FULL)))[0]


@pytest.mark.usefixtures("installed")
def test_where_none_counts_no_gradient_is_added():
    player = own_loop(recipe({"bright": {"above": 9}}, **FULL))
    before = state_of(player.net), state_of(player.critic)
    _, terms = trained(player)
    assert (state_of(player.net), state_of(player.critic)) == before
    assert set(map(float, terms.values())) == {0.0}


@pytest.mark.usefixtures("installed")
def test_a_filter_sees_labels_teachers_and_the_discriminator(tmp_path):
    fit = {"losses": {"recon": 1}, "teacher": "given", "batch": 12, "data": "judged"}
    made = compressed(recipe(share=0.5, discriminator="frozen", **fit), val=0, run=tmp_path / "run")
    counted = [row["counted"] for row in made.history if "counted" in row]
    assert counted
    assert all(0.5 < each <= 1 for each in counted)
    with pytest.raises(RecipeError, match=r"data: judged goes through the discriminator, and"):
        compressed(recipe(share=0.5, discriminator="none", **fit), val=0)
    with pytest.raises(RecipeError, match=r"data: judged compares with a teacher, and there is"):
        compressed(recipe(share=0.5, discriminator="frozen", **fit | {"teacher": []}), val=0)


@pytest.mark.usefixtures("installed")
def test_a_filter_that_does_not_say_what_it_needs_is_told_so():
    with pytest.raises(InputError, match=r"needs = frozenset\(\{'discriminator'\}\)"):
        compressed(recipe("silent", **GUIDED), val=0)


@pytest.mark.usefixtures("installed")
def test_a_filter_holds_after_a_stop(tmp_path):
    asked = {**DISTIL["stages"]["slim"], "fit": {**DISTIL["stages"]["slim"]["fit"],
             "data": {"bright": {"above": 0.0}}}}  # fmt: skip
    system = {"stages": {"slim": asked}}
    whole = compressed(system, run=tmp_path / "whole")
    for _ in range(20):
        made = compressed(system, run=tmp_path / "parts", time=1e-9)
        if made.finished:
            break
    assert state_of(made.model) == state_of(whole.model)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("odd", r"data: odd: counts returns float32 of shape \(\); return \(2,\) of bool"),
        ("never", "data: never: the filter leaves no examples of 12"),
        ("brigth", "unknown filter 'brigth'; did you mean 'bright'"),
    ],
)
def test_filters_that_do_not_answer_are_named(data, said):
    with pytest.raises((InputError, RecipeError), match=said):
        compressed(recipe(data), val=0)


@pytest.mark.usefixtures("installed")
def test_a_filter_by_values_does_not_go_with_players():
    asked = cycled(4, data="bright")
    with pytest.raises(RecipeError, match="chooses by what the student makes, and the players"):
        compressed(asked, data=two_sets(), discriminator=Patch(3))
