"""How held-out examples are judged: batch by batch, and as if all were judged at once."""

import weakref

import pytest
import torch
from torch import nn

from gfx.metrics import evaluate
from gfx.train import tasks
from gfx.train.loop.devices import Devices
from gfx.train.runs.evaluation import Evaluation
from gfx.train.runs.held_out_set import HeldOutSet
from support.training_runs import generator, pairs


class Means(nn.Module):
    """Features of images: what each channel is in the mean."""

    def forward(self, x):
        return x.mean((2, 3)) + 0.0 * torch.rand(())  # draws, as an augmenting net might


METRICS = ["l1", "psnr", f"fd[{__name__}:Means]"]


def evaluation(count=150, teacher=None):
    task = tasks.paired(*pairs(count), flip=False)
    teacher = generator(seed=1) if teacher is None else teacher
    return Evaluation(HeldOutSet(task), METRICS, teacher, Devices("cpu"))


def test_scores_are_those_of_all_images_at_once():
    net, (x, y) = generator(), pairs(150)
    with torch.no_grad():
        made = torch.cat([net(some) for some in x.split(8)])
    wanted = evaluate(METRICS, made, reals=y, targets=y)
    found = evaluation().judge(net).scores
    assert {name: score.value for name, score in found.items()} == pytest.approx(
        {name: score.value for name, score in wanted.items()}, rel=1e-6
    )
    assert found[METRICS[2]].fakes == found[METRICS[2]].reals == 150


def test_judging_leaves_modes_gradients_and_random_numbers_as_they_are():
    net = nn.Sequential(generator(), nn.Dropout(0.5)).train()
    judge = evaluation(40)
    drawn = torch.get_rng_state()
    first = judge.judge(net)
    assert torch.is_grad_enabled()
    assert net.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert judge.judge(net).scores == first.scores


def test_few_images_are_in_memory_at_once():
    alive, most = weakref.WeakSet(), 0

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = generator()

        def forward(self, x):
            nonlocal most
            made = self.net(x)
            alive.add(made)
            most = max(most, sum(map(len, alive)))
            return made

    evaluation(teacher=Counted()).judge(Counted())
    assert most <= 80  # of 150; metrics take 50 at a time
