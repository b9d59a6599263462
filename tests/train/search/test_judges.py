"""A net's value is that of gfx.metrics on the net that is delivered, however it is judged."""

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import InputError
from gfx.ir.execute import tolerance
from gfx.metrics import Reference, evaluate
from gfx.train import tasks
from gfx.train.runs.held_out_set import HeldOutSet
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.refit_judge import RefitJudge
from gfx.train.search.shared_prefixes import SharedPrefixes
from gfx.train.search.supernet_judge import SupernetJudge
from support.training_runs import generator
from support.zoo_small import SMALL, small

NETS = [name for name in SMALL if name != "srresnet"]  # its groups are of 4 channels
X = torch.zeros(1, 3, 8, 8)


class Features(nn.Module):
    """Means and spreads of the colours."""

    def forward(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)


def features():
    return Features()


def net_of(name="resnet_9blocks", **options):
    model, inputs = small(name)
    options = {"widths": [0.5, 0.75, 1.0], "order": None, "verify": False} | options
    return gfx.supernet(model, inputs, **options)


def examples_of(net, count=12):
    """Inputs like those of the example."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        given = net.program.example_inputs
        drawn = [
            x.expand(count, *x.shape[1:])
            if not x.is_floating_point()
            else torch.rand(count, *x.shape[1:]) * 2 - 1
            for x in given
        ]
        rows = [tuple(x[i] for x in drawn) for i in range(count)]
    return JudgedExamples.of(tasks.inputs([r if len(r) > 1 else r[0] for r in rows]), most=count)


def pairs_of(count=12):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        x = torch.rand(count, 3, 8, 8) * 2 - 1
    return tasks.paired(x, x.roll(1, 1) * 0.7)


def some(net, count=6):
    return [net.largest(), net.smallest(), *(net.sample(1, step) for step in range(count))]


def by_hand(small, on):
    """What a net makes of all examples."""
    with torch.no_grad():
        small.eval()
        return torch.cat([on.unit(on.task.generate(small, batch)) for batch in on.batches])


@pytest.mark.parametrize("name", NETS)
def test_nets_that_share_what_they_agree_in_make_what_they_make_one_by_one(name):
    net = net_of(name)
    on = examples_of(net)
    shared, alone = (SupernetJudge(net, on, share=share) for share in (True, False))
    nets = some(net)
    assert shared.share
    for batch in on.batches:
        with shared.undisturbed(), alone.undisturbed():
            made = dict(shared._made(nets, batch))
            for number, images in alone._made(nets, batch):
                assert torch.equal(made[number], images)
    assert shared.judge(nets) == alone.judge(nets)


@pytest.mark.parametrize("name", NETS)
def test_the_value_is_that_of_gfx_metrics_on_the_net_that_is_delivered(name):
    net = net_of(name)
    on = examples_of(net)
    judge = SupernetJudge(net, on)
    wanted = by_hand(judge.deliver(net.largest()), on)
    for widths in some(net, 2)[1:]:
        (found,) = judge.judge([widths])
        made = by_hand(judge.deliver(widths), on)
        if float(wanted.abs().max()) <= 1 and judge._scores and not judge._scores.plain:
            again = evaluate(["l1"], made, targets=wanted)["l1"].value
        else:
            again = float((made - wanted).double().abs().mean())
        assert found.value == pytest.approx(again, rel=1e-4, abs=tolerance(net.program))
        assert found.examples == on.count == len(found.each)
        assert found.value == pytest.approx(sum(found.each) / on.count)


@pytest.mark.parametrize("norm", [True, nn.BatchNorm2d, None])
@pytest.mark.parametrize("score", ["l1", "psnr", "fd[test_judges:features]"])
def test_any_metric_against_truth_is_that_of_evaluate(norm, score, monkeypatch):
    monkeypatch.syspath_prepend("tests/train/search")
    net = gfx.supernet(generator(norm), X, widths=[0.5, 1.0])
    task = pairs_of(24)
    on = JudgedExamples.of(task, most=20)
    judge = SupernetJudge(net, on, score)
    truths = torch.cat(list(on.truths))
    reals = HeldOutSet(task).reals
    for widths in some(net, 2):
        (found,) = judge.judge([widths])
        made = by_hand(judge.deliver(widths), on)
        again = evaluate([score], made, targets=truths, reals=reals)[score]
        assert found.value == pytest.approx(again.value, rel=1e-4, abs=1e-7)
        assert found.error > 0
        assert bool(found.each) == ("[" not in score)
        assert bool(found.pseudo) == ("[" in score)
    assert judge.higher_is_better == again.higher_is_better


def test_the_supernet_and_random_numbers_are_left_as_they_were():
    net = gfx.supernet(generator(nn.BatchNorm2d), X, widths=[0.5, 1.0])
    net.train()
    widths = net.set(net.sample(0, 0))
    net.calibrate([torch.rand(4, 3, 8, 8)])
    state = {name: value.clone() for name, value in net.state_dict().items()}
    known, chance = net.kept_moments, torch.get_rng_state()
    judge = SupernetJudge(net, JudgedExamples.of(pairs_of()))
    judge.judge(some(net))
    judge.deliver(net.smallest())
    judge.images(net.smallest(), judge.on.batches[0])
    assert net.training
    assert net.current == widths
    assert net.kept_moments.keys() == known.keys()
    assert torch.equal(chance, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_a_value_depends_on_the_net_and_the_number_of_examples_alone():
    net = net_of()
    on = examples_of(net, 20)
    nets = some(net)
    forwards, backwards = SupernetJudge(net, on), SupernetJudge(net, on)
    one = [forwards.judge([each], 11)[0] for each in nets]
    forwards.judge(nets)
    assert backwards.judge(nets[::-1], 11)[::-1] == one
    assert [each.examples for each in one] == [11] * len(nets)
    assert forwards.judge(nets)[2].each[:8] == one[2].each[:8]


def test_memory_bounds_what_is_kept_and_changes_nothing():
    net = net_of()
    on = examples_of(net, 8)
    nets = [net.sample(2, step) for step in range(20)]
    judges = [SupernetJudge(net, on, memory=memory) for memory in (0, 20_000, 1 << 30)]
    values = [judge.judge(nets) for judge in judges]
    assert values[0] == values[1] == values[2]
    ran = [judge.prefixes.ran for judge in judges]
    assert ran[0] > ran[1] >= ran[2]


def test_what_is_forgotten_is_measured_again(monkeypatch):
    from gfx.train.search import shared_prefixes

    monkeypatch.setattr(shared_prefixes, "_NUMBERS", 10)
    net = gfx.supernet(generator(nn.BatchNorm2d), X, widths=[0.5, 0.75, 1.0])
    nets = some(net)
    forgetful = SupernetJudge(net, JudgedExamples.of(pairs_of()))
    one_by_one = [forgetful.judge([each])[0] for each in nets]
    assert SupernetJudge(net, forgetful.on).judge(nets) == one_by_one
    forgetful.deliver(nets[1])


class Overwriting(nn.Module):
    """Writes into what a branch has read before."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 8), (8, 8), (8, 3))
        )

    def forward(self, x):
        first = self.a(x)
        second = self.b(first)
        first.relu_()
        return self.c(torch.nn.functional.relu(second, inplace=True) * 0.5).add_(
            first[:, :3].mean()
        )


class Drawing(nn.Module):
    """Adds noise between its layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 8), (8, 8), (8, 3))
        )

    def forward(self, x):
        x = self.a(x)
        x = self.b(x + torch.randn(x.shape[0], 1, 8, 8))
        return torch.tanh(self.c(x + torch.randn(x.shape[0], 1, 8, 8)))


@pytest.mark.parametrize("kind", [Overwriting, Drawing])
def test_values_that_are_overwritten_and_numbers_that_are_drawn_are_as_one_by_one(kind):
    torch.manual_seed(0)
    net = gfx.supernet(kind().eval(), X, widths=[0.5, 0.75, 1.0], verify=False)
    on = JudgedExamples.of(tasks.inputs(torch.rand(8, 3, 8, 8) * 2 - 1))
    nets = [net.sample(0, step) for step in range(8)]
    shared, alone = (SupernetJudge(net, on, share=share) for share in (True, False))
    assert shared.judge(nets) == alone.judge(nets)


def test_moments_are_those_of_calibrate():
    net = gfx.supernet(generator(nn.BatchNorm2d), X, widths=[0.5, 0.75, 1.0])
    batches = [torch.rand(4, 3, 8, 8) for _ in range(3)]
    prefixes = SharedPrefixes(net)
    nets = some(net)
    net.eval()
    prefixes.calibrate(nets, [(x,) for x in batches])
    for widths in nets:
        net.set(widths)
        net.calibrate(batches)
        known = net.kept_moments[tuple(net.units(widths))]
        found = prefixes.moments(widths)
        for path, moments in known.items():
            assert all(torch.equal(a, b) for a, b in zip(moments, found[path], strict=True))


def test_a_call_of_the_users_own_is_judged_too():
    net = gfx.supernet(generator(nn.BatchNorm2d), X, widths=[0.5, 1.0])
    x = torch.rand(12, 3, 8, 8)
    plain = SupernetJudge(net, JudgedExamples.of(tasks.inputs(x)))
    odd = tasks.inputs(x, call=lambda g, batch: g(batch.tensors["x0"]))
    judge = SupernetJudge(net, JudgedExamples.of(odd))
    assert not judge.share
    assert judge.judge(some(net)) == plain.judge(some(net))


def test_a_judge_on_other_examples_has_the_same_moments():
    net = gfx.supernet(generator(nn.BatchNorm2d), X, widths=[0.5, 1.0])
    judge = SupernetJudge(net, JudgedExamples.of(pairs_of()))
    other = judge.anew(JudgedExamples.of(pairs_of(), name="fresh"))
    (found,) = other.judge([net.smallest()])
    made = by_hand(judge.deliver(net.smallest()), other.on)
    again = evaluate(["l1"], made, targets=torch.cat(list(other.on.truths)))["l1"].value
    assert found.value == pytest.approx(again, rel=1e-5)


def test_jackknife_errors_are_those_of_repeated_samples():
    """The error of a distance of sets tells how it varies from sample to sample."""
    from gfx.train.search.judged_examples import ExampleScores

    drawn = torch.Generator().manual_seed(0)
    reals = Reference(torch.rand(400, 3, 4, 4, generator=drawn) * 2 - 1)
    values, errors = [], []
    for _ in range(60):
        fakes = (torch.rand(60, 3, 4, 4, generator=drawn) * 2 - 1) * 0.6
        on = JudgedExamples(tasks.inputs(fakes), (), None, reals)
        scores = ExampleScores("fd[a:b]", on, extractors={"a:b": Features()})
        found = scores.judgement([scores.of_batch(0, fakes)])
        values.append(found.value)
        errors.append(found.error)
    spread = torch.tensor(values).std()
    assert 0.6 < torch.tensor(errors).mean() / spread < 1.6


def test_what_cannot_be_judged_is_refused():
    net = net_of()
    on = examples_of(net, 8)
    with pytest.raises(InputError, match="there is no metric 'l3'"):
        SupernetJudge(net, on, "l3").judge([net.largest()])
    with pytest.raises(InputError, match=r"metric 'fd\[a:b\]' compares with real images; give"):
        SupernetJudge(net, on, "fd[a:b]").judge([net.largest()])
    with pytest.raises(InputError, match="examples=9 must be from 1 to 8"):
        SupernetJudge(net, on).judge([net.largest()], 9)
    with pytest.raises(InputError, match=r"cannot be 3 wide; its widths are"):
        SupernetJudge(net, on).judge([{next(iter(net.widths)): 3}])


def test_outputs_that_are_no_images_are_judged_by_l1_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1)).eval()
    net = gfx.supernet(model, X, widths=[0.5, 1.0])
    on = JudgedExamples.of(tasks.inputs(torch.rand(8, 3, 8, 8) * 9))
    assert SupernetJudge(net, on).judge([net.smallest()])[0].value > 0
    with pytest.raises(InputError, match="the score psnr judges images in"):
        SupernetJudge(net, on, "psnr").judge([net.smallest()])


# refitted nets


@pytest.fixture(scope="module")
def refitted():
    net = gfx.supernet(generator(None), X, widths=[0.5, 0.75, 1.0])
    task = tasks.inputs(torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    on = JudgedExamples.of(task, most=16)
    return RefitJudge(net, on, JudgedExamples.of(task, name="fit").batches)


def test_the_refitted_net_that_is_judged_is_delivered(refitted):
    net, on = refitted.net, refitted.on
    wanted = by_hand(net.extract(net.largest()), on)
    for widths in some(net, 1)[1:]:
        (found,) = refitted.judge([widths])
        refitted._made.clear()  # made again, it is the same
        made = by_hand(refitted.deliver(widths), on)
        again = evaluate(["l1"], made, targets=wanted)["l1"].value
        assert found.value == pytest.approx(again, rel=1e-5)
        assert gfx.cost(refitted.deliver(widths), X).params == net.cost(widths).params


def test_refitting_is_better_than_pruning_alone(refitted):
    net = refitted.net
    pruned = SupernetJudge(net, refitted.on)
    nets = [net.smallest(), net.sample(0, 0)]
    for fitted, alone in zip(refitted.judge(nets), pruned.judge(nets), strict=True):
        assert fitted.value < alone.value


def test_refitting_leaves_model_and_random_numbers_alone(refitted):
    state = {name: value.clone() for name, value in refitted.net.state_dict().items()}
    chance = torch.get_rng_state()
    other = refitted.anew(refitted.on)
    other._made = {}
    other.judge([refitted.net.sample(5, 5)])
    assert torch.equal(chance, torch.get_rng_state())
    assert all(torch.equal(v, state[n]) for n, v in refitted.net.state_dict().items())
