"""A run's result is a function of recipe, model, data and seed, and of nothing else."""

import json
import threading

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import InputError, RecipeError
from gfx.io.yaml_text import parse
from gfx.train import tasks
from support import task_generators
from support.task_kinds import images
from support.training_runs import (
    DISTIL,
    Patch,
    compressed,
    files_of,
    generator,
    pairs,
    state_of,
)

EXAMPLE = torch.zeros(1, 3, 8, 8)


def fit(**fields):
    return {"stages": {"one": {"fit": {"batch": 2, "steps": 3, **fields}}}}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return compressed(run=folder), files_of(folder)


def test_a_run_leaves_a_working_smaller_generator_and_says_how(reference):
    run, _ = reference
    report = gfx.report(run.model)
    assert run.finished
    assert run.model(EXAMPLE).shape == (1, 3, 8, 8)
    assert report.before.macs.exact == gfx.cost(generator(), EXAMPLE).macs.exact
    assert report.after.macs.exact == gfx.cost(run.model).macs.exact < report.before.macs.exact
    assert "channel_prune" in [step.name for step in report.passes]
    assert any("6 steps of training" in note for note in report.notes)
    assert [stage.name for stage in run.plan.stages] == ["given", "slim"]
    assert run.plan.stages[1].macs == report.after.macs.exact
    assert set(run.scores["slim"]) == {"l1", "psnr"}
    assert not run.model.training


def test_the_model_as_given_is_judged_as_the_students_are(tmp_path):
    x, y = pairs()
    run = compressed(data=(x, y), run=tmp_path, val=0.5)
    held = json.loads((tmp_path / "given.json").read_text())
    assert run.scores["given"] == held["scores"]
    (chosen,) = [said for said in run.assumed if "held out" in said]
    assert "6 of 12" in chosen
    # by hand: as a student that nothing was done to and that did not train
    same = {"stages": {"same": {"fit": {"losses": {"l1": 1}, "steps": 1, "lr": 1e-30}}}}
    beside = compressed(same, data=(x, y), run=tmp_path / "beside", val=0.5)
    assert beside.scores["same"] == pytest.approx(run.scores["given"], rel=1e-6)
    assert any(note.startswith("as it was given; held out: l1") for note in report_notes(run))
    # what another wrote is not believed, and what the run wrote is not made anew
    for spoilt in ('{"scores": {"l1": 0.0}, "said": []}', "{", ""):
        (tmp_path / "given.json").write_text(spoilt)
        again = compressed(data=(x, y), run=tmp_path, val=0.5)
        assert again.scores == run.scores
        assert json.loads((tmp_path / "given.json").read_text()) == held


def report_notes(run):
    return gfx.report(run.model).notes


def test_without_truth_the_model_as_given_is_not_compared_with_itself(tmp_path):
    recipe = fit(losses={"mimic": 1}, teacher="given", discriminator="none")
    run = compressed(recipe, data=pairs()[0], task="self", discriminator=None, run=tmp_path)
    assert list(run.scores) == ["one"]
    assert json.loads((tmp_path / "given.json").read_text())["scores"] == {}


def test_a_model_as_given_that_cannot_be_judged_is_told_of(tmp_path):
    class Wild(torch.nn.Module):
        """Makes images that are not finite, until its weights are drawn anew."""

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            torch.nn.init.constant_(self.conv.weight, torch.inf)

        def forward(self, x):
            return self.conv(x)

    recipe = fit(losses={"l1": 1})
    recipe["stages"]["one"]["do"] = ["reinitialise"]
    run = compressed(recipe, Wild().eval(), run=tmp_path)
    assert run.finished
    assert list(run.scores) == ["one"]
    assert any("the model as it was given is not judged: the fakes hold" in s for s in run.assumed)


def test_the_folder_holds_the_recipe_with_every_default(reference):
    run, _ = reference
    stored = parse((run.folder / "recipe.yaml").read_text("utf-8"), "recipe")
    assert stored["stages"]["slim"]["fit"]["betas"] == [0.5, 0.999]
    assert stored["stages"]["slim"]["do"][0]["channel_prune"]["importance"] == "l1"
    asked = stored.pop("run")
    assert (asked["task"], asked["seed"]) == ("paired", 0)
    assert gfx.train.systems.load_system(stored).stages[0].name == "slim"


HOW = {
    "evaluated often": {"evaluate": 1},
    "written at every step": {"checkpoint_seconds": 0.0},
    "progress": {"progress": lambda event: None},
    "a stream that moved": {},
}


@pytest.mark.parametrize("case", HOW)
def test_how_it_is_watched_changes_nothing(case, reference, tmp_path):
    torch.manual_seed(hash(case) % 1000)
    run = compressed(run=tmp_path, **HOW[case])
    assert state_of(run.model) == state_of(reference[0].model)
    rows = [row for row in run.history if not any(key.startswith("held") for key in row)]
    assert rows == list(reference[0].history)


def test_another_seed_is_another_run(reference, tmp_path):
    assert state_of(compressed(run=tmp_path, seed=1).model) != state_of(reference[0].model)


def test_a_finished_run_is_given_back_and_another_command_is_shown_the_difference(
    reference, tmp_path
):
    first = compressed(run=tmp_path, scale=0.5)
    again = compressed(run=tmp_path, scale=0.5)
    assert state_of(first.model) == state_of(again.model)
    assert again.history == first.history
    for change, said in (
        ({"seed": 3}, "run.seed: was 0, now 3"),
        ({"scale": 1.0}, "run.scale: was 0.5, now 1.0"),
        ({"flip": False}, "run.flip: was True, now False"),
        ({"data": pairs(11)}, "run.examples: was"),
        ({"model": generator(seed=5)}, "run.model: was"),
        ({"discriminator": Patch(seed=5)}, "run.discriminator: was"),
    ):
        with pytest.raises(InputError) as caught:
            compressed(**{"run": tmp_path, "scale": 0.5, **change})
        assert said in str(caught.value)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds 'thesis"):
        compressed(run=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.txt"]


def test_a_run_that_was_refused_may_be_asked_anew(tmp_path):
    with pytest.raises(InputError, match="does not take what the task paired gives it"):
        compressed(run=tmp_path, discriminator=Patch(channels=4))
    assert compressed(run=tmp_path, scale=0.1).finished


def test_model_teacher_and_discriminator_are_left_bit_for_bit():
    model, critic = generator(), Patch()
    before = state_of(model), state_of(critic)
    torch.manual_seed(3)
    stream = torch.random.get_rng_state()
    compressed(model=model, discriminator=critic, scale=0.5)
    assert (state_of(model), state_of(critic)) == before
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert not model.training


def test_lengths_scale_and_a_dry_run_trains_nothing(tmp_path):
    run = compressed(run=tmp_path / "dry", dry_run=True, scale=0.5)
    assert not run.finished
    assert run.plan.stages[1].steps in (2, 4)
    assert run.plan.memory > 0
    assert not (tmp_path / "dry").exists()
    assert compressed(run=tmp_path / "trial", scale=0.001).plan.stages[1].steps == 1


def test_time_stops_a_run_and_the_same_call_goes_on(reference, tmp_path):
    stops = 0
    run = compressed(run=tmp_path, time=0.0)
    while not run.finished:
        stops += 1
        assert stops < 9
        run = compressed(run=tmp_path, time=0.0)
    assert stops == 5
    assert state_of(run.model) == state_of(reference[0].model)
    assert files_of(tmp_path) == reference[1]


def test_two_stages_teach_one_another_and_the_discriminator_is_inherited(tmp_path):
    recipe = {
        "stages": {
            "teacher": {"fit": {"losses": {"gan": "hinge", "l1": 100}, "steps": 4, "batch": 2}},
            "slim": {
                "do": [{"channel_prune": {"ratio": 0.5}}],
                "fit": {
                    "teacher": "teacher",
                    "losses": {"gan": "hinge", "mimic": 1},
                    "steps": "50%",
                    "batch": 2,
                },
            },
        }
    }
    run = compressed(recipe, run=tmp_path, discriminator=None)
    assert [stage.steps for stage in run.plan.stages] == [0, 4, 2]
    assert list(run.scores) == ["given", "teacher", "slim"]
    # the second began with the discriminator of the first
    critics = [torch.load(path) for path in sorted(tmp_path.glob("*.critic.pt"))]
    first = torch.cat([value.flatten() for value in critics[0].values()])
    second = torch.cat([value.flatten() for value in critics[1].values()])
    assert 0 < float((first - second).abs().max()) < 0.01


def test_an_online_teacher_learns_beside_its_student():
    recipe = fit(
        teacher=[{"stage": "given", "online": True, "losses": {"gan": "hinge", "l1": 100}}],
        discriminator="none",
        losses={"mimic": 1},
    )
    run = compressed(recipe, discriminator=None)
    assert {"teacher given.gan", "teacher given.l1", "teacher given.discriminator", "mimic"} <= set(
        run.history[0]
    )


def test_several_teachers_are_summed():
    one = compressed(fit(teacher="given", losses={"mimic": 1}, discriminator="none", steps=1))
    two = compressed(
        fit(teacher=["given", "given"], losses={"mimic": 1}, discriminator="none", steps=1)
    )
    assert two.history[0]["mimic"] == pytest.approx(2 * one.history[0]["mimic"])


def test_what_a_stage_is_worth_decides_what_it_keeps():
    worse = fit(losses={"l1": 1}, lr=1.0, discriminator="none", steps=4)
    worse["stages"]["one"]["keep"] = "if_better"
    run = compressed(worse)
    assert state_of(run.model) == state_of(generator())
    assert any("kept what it began with at step 0" in said for said in run.assumed)
    better = fit(losses={"l1": 1}, lr=1e-3, discriminator="none", steps=20)
    better["stages"]["one"]["keep"] = "if_better"
    assert state_of(compressed(better).model) != state_of(generator())


TASKS = {
    "paired": (task_generators.translator, pairs(), {"gan": "hinge", "recon": 10}),
    "unpaired": (
        task_generators.translator,
        (images(9), images(7, 1)),
        {"gan": "lsgan", "recon": 10},
    ),
    "latent": (task_generators.dcgan, images(9), {"gan": "vanilla", "mimic": 1}),
    "super_resolution": (task_generators.upscaler, images(9), {"gan": "hinge", "l1": 1}),
    "class": (
        task_generators.conditional,
        [(image, n % 3) for n, image in enumerate(images(9))],
        {"mimic": 1},
    ),
    "labels": (
        lambda: task_generators.editor(2),
        [(image, torch.tensor([n % 2, 1])) for n, image in enumerate(images(9))],
        {"gan": "hinge", "labels": 1, "mimic": 1},
    ),
    "self": (task_generators.translator, images(9), {"mimic": 1}),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains(task, tmp_path):
    build, data, losses = TASKS[task]
    program = build()
    has_critic = "gan" in losses
    recipe = fit(teacher="given", losses=losses, discriminator="fresh" if has_critic else "none")
    run = gfx.compress(
        recipe,
        program.module.eval(),
        data=data,
        task=task,
        run=tmp_path,
        example_inputs=program.example_inputs,
    )
    assert run.finished
    assert ("discriminator" in run.history[0]) == has_critic
    assert all(value == value for row in run.history for value in row.values())


def test_a_teacher_s_values_that_come_again_are_the_same_cached_or_not():
    recipe = fit(teacher="given", losses={"mimic": 1}, discriminator="none", steps=30)
    recipe["stages"]["one"]["do"] = [{"channel_prune": {"ratio": 0.5}}]
    kept = compressed(recipe, data=pairs(4), flip=False)
    recipe["stages"]["one"]["fit"]["cache"] = False
    assert compressed(recipe, data=pairs(4), flip=False).history[-2]["mimic"] == pytest.approx(
        kept.history[-2]["mimic"], rel=1e-3
    )


BAD = {
    "labels": (
        fit(losses={"gan": "hinge", "labels": 1}),
        {},
        InputError,
        "has no labels|no logits",
    ),
    "no truth": (
        fit(losses={"l1": 1}),
        {"data": images(9), "task": "self"},
        RecipeError,
        "compares with the ground truth, and the task self has none",
    ),
    "no real images": (
        fit(losses={"gan": "hinge"}),
        {"data": images(9), "task": "self", "discriminator": None},
        InputError,
        "compares with real images, and the task self has none",
    ),
    "nothing tapped": (
        fit(teacher="given", losses={"taps": 1}),
        {},
        RecipeError,
        "compares features, and nothing is tapped",
    ),
    "no discriminator": (
        fit(losses={"gan": "hinge"}, discriminator="given"),
        {"discriminator": None},
        InputError,
        "asks for a trained one, and none was given",
    ),
    "a size": (
        fit(losses={"l1": 1}),
        {"model": nn.Conv2d(3, 3, 3, 2, 1), "discriminator": None},
        InputError,
        "the generator makes images of 2x3x4x4, and the real ones are 2x3x8x8",
    ),
    "a tracker": (DISTIL, {"log": ["tensorbord"]}, InputError, "there is no tracker 'tensorbord'"),
    "a scale": (DISTIL, {"scale": 0}, RecipeError, "scale=0 must be above 0"),
    "a device": (DISTIL, {"device": "abacus"}, InputError, "device 'abacus' cannot be used"),
    "a seed": (DISTIL, {"seed": -1}, InputError, "seed is -1"),
    "a metric": (DISTIL, {"metrics": ["fid"]}, InputError, "fid"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said_before_the_first_step(case, tmp_path):
    recipe, how, kind, said = BAD[case]
    with pytest.raises(kind, match=said):
        compressed(recipe, run=tmp_path / "run", **how)
    assert not list(tmp_path.glob("run/*.gfx"))


def test_a_loss_that_is_not_finite_names_term_step_and_rates_and_the_last_good_state_stays(
    tmp_path,
):
    recipe = fit(losses={"l1": 1}, discriminator="none", steps=50, lr=1e-3)
    x, y = pairs(50)
    bad = y.clone()
    bad[17] = 3e38  # their sum is infinite
    with pytest.raises(InputError, match=r"stage one, step \d+: .*l1.*(learning rates now|NaN)"):
        compressed(
            recipe,
            data=tasks.paired(x, bad),
            run=tmp_path,
            val=0,
            checkpoint_seconds=0.0,
            flip=False,
        )
    state = torch.load(sorted(tmp_path.glob("checkpoints/*.pt"))[-1], weights_only=True)
    assert all(torch.isfinite(v).all() for v in state["players"][0]["net"].values())


def test_a_discriminator_that_is_always_right_is_told_of():
    recipe = fit(losses={"gan": "hinge"}, steps=310, batch=1)
    critic = Patch()
    with torch.no_grad():
        critic[2].weight.zero_()
        critic[2].bias.zero_()

    class Right(nn.Module):
        """Knows real pairs by their colours."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(100.0))

        def forward(self, pair):
            x, y = pair[:, :3], pair[:, 3:]
            wrong = (x.flip(1) - y).abs().mean((1, 2, 3))
            return self.scale * torch.where(wrong < 1e-6, 1.0, -1.0) + 0 * y.mean()

    run = compressed(recipe, discriminator=Right(), data=pairs(4), flip=False)
    assert any("it is right all the time" in said for said in run.assumed)


def test_a_rows_file_holds_what_the_history_holds(reference):
    run, files = reference
    rows = [json.loads(line) for line in files["log.jsonl"].decode().splitlines()]
    assert rows == list(run.history)
    assert files["metrics.csv"].decode().splitlines()[0].startswith("stage,name,step")


def test_a_batch_of_the_command_holds_for_every_stage(tmp_path):
    run = compressed(run=tmp_path, batch=4, scale=0.1)
    stored = parse((tmp_path / "recipe.yaml").read_text("utf-8"), "recipe")
    assert run.finished
    assert stored["stages"]["slim"]["fit"]["batch"] == 4
    with pytest.raises(RecipeError, match="batch=0 must be between 1"):
        compressed(batch=0)


def test_threads_that_feed_end_with_the_run():
    before = set(threading.enumerate())
    compressed(scale=0.1)
    assert set(threading.enumerate()) <= before
