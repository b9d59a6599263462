"""The nets of a search are judged by all processes of a run."""

import pytest
import torch

import gfx
from gfx.errors import InputError
from gfx.train import tasks
from gfx.train.loop.devices import Devices
from gfx.train.runs.spread_judge import SpreadJudge
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.supernet_judge import SupernetJudge


@pytest.fixture(scope="module")
def alone():
    net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.25, 0.5, 1.0])
    return SupernetJudge(net, JudgedExamples.of(tasks.inputs(torch.randn(6, 100, 1, 1))))


class Two(Devices):
    """The first or second of two processes; `other` is what the other gives."""

    ranks = 2

    def __init__(self, rank, sent=(), other=None):
        super().__init__("cpu")
        self.rank, self.sent, self.other, self.shown = rank, list(sent), other, []

    def broadcast(self, value):
        self.shown.append(value)
        return self.sent.pop(0) if self.rank else value

    def gather_objects(self, value):
        self.shown.append(value)
        pair = [value, self.other]
        return pair if self.rank == 0 else pair[::-1]


def nets_of(judge):
    return [judge.net.sample(seed=0, step=step) for step in range(5)]


def test_each_process_judges_its_share_and_the_values_are_those_of_one(alone):
    nets = nets_of(alone)
    wanted = alone.judge(nets)
    second = Two(1, [(nets, 4), None], other=(None, [None] * 3))
    SpreadJudge(alone, second).follow()
    (said, share), end = second.shown[1], second.shown[2:]
    assert (said, len(share), end) == (None, 2, [None])
    first = Two(0, other=(None, share))
    with SpreadJudge(alone, first).led() as judge:
        found = judge.judge(nets, 4)
    assert found == alone.judge(nets, 4) != wanted
    assert first.shown[0] == (nets, 4)
    assert first.shown[-1] is None  # the others may go


def test_what_fails_in_another_process_is_raised_in_the_first_and_lets_all_go(alone):
    first = Two(0, other=("RuntimeError: out of memory", []))
    with (
        pytest.raises(InputError, match="process 1 of 2 could not judge: RuntimeError: out of"),
        SpreadJudge(alone, first).led() as judge,
    ):
        judge.judge(nets_of(alone))
    assert first.shown[-1] is None


def test_a_net_that_is_none_of_the_supernet_s_is_refused_in_every_process(alone):
    second = Two(1, [([{"main.0": 3}], None)], other=(None, []))
    with pytest.raises(InputError, match=r"main\.0"):
        SpreadJudge(alone, second).follow()


def test_a_net_that_cannot_be_judged_is_told_by_its_process(alone, monkeypatch):
    def fails(nets, examples):
        raise MemoryError("32 GiB")

    monkeypatch.setattr(alone, "judge", fails)
    first = Two(0, other=(None, []))
    with pytest.raises(MemoryError, match="32 GiB"):
        SpreadJudge(alone, first).judge(nets_of(alone)[:1])
    assert first.shown[1] == ("MemoryError: 32 GiB", [])
