"""A front reports what fresh examples say, and says so where they cannot tell."""

import json
import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gfx
from gfx.errors import ArchiveError, InputError
from gfx.train import tasks
from gfx.train.search.example_split import split_examples
from gfx.train.search.front import MEASURES, SearchedNet, chosen_nets, make_front, pick
from gfx.train.search.front_file import FRONT, front_seal, net_of, read_front, write_front
from gfx.train.search.front_pictures import front_pictures
from gfx.train.search.judge_protocol import Judgement
from gfx.train.search.paired_intervals import interval, paired_difference
from gfx.train.search.search_folder import claimed_folder
from gfx.train.search.supernet_judge import SupernetJudge
from support.laws import law

N = 40


def net(cost, value, **widths):
    return SearchedNet(widths or {"a": cost}, dict.fromkeys(MEASURES, cost), value)


@dataclass
class NoiseJudge:
    """Says of a net with k channels `slope · k` and noise of its own, and noise of the examples."""

    seed: int
    slope: float = 0.0
    common: float = 0.0
    own: float = 1.0
    higher_is_better: bool = False
    sets: bool = False
    score: str = "l1"
    examples: int = N

    def judge(self, nets, examples=None):
        shared = np.random.default_rng([self.seed, 0]).normal(size=N) * self.common
        made = []
        for each in nets:
            k = each["a"]
            own = np.random.default_rng([self.seed, 1, k]).normal(size=N) * self.own
            values = tuple(float(v) for v in self.slope * k + shared + own)
            mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(N))
            if self.sets:
                made.append(Judgement(mean, error, N, pseudo=values))
            else:
                made.append(Judgement(mean, error, N, values))
        return made


def searched(judge, count=60):
    nets = [{"a": k} for k in range(1, count)]
    found = judge.judge(nets)
    return [net(w["a"], j.value) for w, j in zip(nets, found, strict=True)]


def front_of(first, fresh, count=60):
    found = searched(first, count)
    return make_front(found, fresh, found[-1], searched_examples=N)


@pytest.mark.parametrize("sets", [False, True])
@pytest.mark.parametrize("higher", [False, True])
def test_a_front_of_pure_noise_cannot_tell(higher, sets):
    """In one of twenty at most: the bounds of all pairs hold together at 95 %."""
    told = fronts = 0
    for seed in range(100):
        judges = [NoiseJudge(2 * seed + i, higher_is_better=higher, sets=sets) for i in (0, 1)]
        front = front_of(*judges)
        told += front.told
        fronts += len(front.nets) > 1
        if len(front.nets) > 1 and not front.told:
            assert front.sentence.startswith(f"cannot tell these {len(front.nets)} nets apart: on ")
            assert {each.verdict for each in front.nets[1:]} == {
                "within the noise of the one before"
            }
    assert fronts > 90  # noise makes a front
    assert told <= 9  # of 100 at 5 %: more than 9 in 3 of 100 trials


def test_a_front_that_is_there_is_found_in_spite_of_common_noise():
    """Examples that are hard for all nets do not hide what nets differ by."""
    front = front_of(*(NoiseJudge(i, -1.0, common=50.0, own=0.5) for i in (0, 1)))
    assert front.told
    assert all("better" in each.verdict for each in front.nets[1:])
    assert all(each.high - each.low > 10 for each in front.nets)  # alone, each is not known


def test_reported_values_are_those_of_fresh_examples():
    first, fresh = NoiseJudge(0, -0.01), NoiseJudge(1, -0.01)
    front = front_of(first, fresh)
    for each in front.nets:
        (again,) = fresh.judge([each.widths])
        (before,) = first.judge([each.widths])
        assert each.value == again.value
        assert each.searched == before.value
        assert each.low < each.value < each.high
    chosen, again = (np.mean([getattr(n, k) for n in front.nets]) for k in ("searched", "value"))
    assert chosen < again  # what was chosen for being good is too good


def test_a_net_that_is_worse_is_called_so():
    values = {1: 5.0, 2: 4.0, 3: 3.0}

    class Turned(NoiseJudge):
        def judge(self, nets, examples=None):
            made = [(n["a"], self.seed) for n in nets]
            return [
                Judgement(v := float(a) + 0.0, 0.1, N, tuple(v + 0.01 * i % 3 for i in range(N)))
                for a, _ in made
            ]

    front = make_front([net(k, v) for k, v in values.items()], Turned(0), net(3, 3.0))
    assert [each.verdict for each in front.nets] == [
        "the cheapest", "worse than the one before", "worse than the one before"
    ]  # fmt: skip


def test_without_errors_nothing_is_told():
    class Silent(NoiseJudge):
        def judge(self, nets, examples=None):
            return [Judgement(1.0 / n["a"]) for n in nets]

    front = front_of(Silent(0), Silent(0))
    assert not front.told
    assert "cannot tell" in front.sentence


def test_the_front_has_no_net_that_another_beats_in_both():
    rng = np.random.default_rng(0)
    found = [
        net(int(c), float(v))
        for c, v in zip(rng.integers(1, 99, 200), rng.random(200), strict=True)
    ]
    for higher in (False, True):
        chosen = chosen_nets(found, "exact", higher_is_better=higher, most=99)
        sign = -1 if higher else 1
        for each in chosen:
            beats = [
                o for o in found
                if o.prices["exact"] <= each.prices["exact"] and sign * o.value < sign * each.value
            ]  # fmt: skip
            assert not beats
        few = chosen_nets(found, "exact", higher_is_better=higher, most=3)
        assert few[0] == chosen[0]
        assert few[-1] == chosen[-1]
        assert len(few) == min(3, len(chosen))


def test_values_that_are_no_numbers_are_left_out_and_infinite_ones_are_not_compared():
    found = [net(1, math.nan), net(2, 1.0), net(3, math.inf)]
    assert [n.value for n in chosen_nets(found, "exact", higher_is_better=True)] == [1.0, math.inf]
    one = Judgement(math.inf, 0.0, 3, (math.inf,) * 3)
    other = Judgement(3.0, 0.1, 3, (2.9, 3.0, 3.1))
    assert not paired_difference(one, other).told
    assert paired_difference(one, one).value == 0.0


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(0)
    for count in (6, 20):
        inside = 0
        for _ in range(2000):
            values = rng.normal(size=count)
            error = values.std(ddof=1) / math.sqrt(count)
            inside += abs(values.mean()) <= interval(error, count)
        assert 0.93 < inside / 2000 < 0.97


# picking


@pytest.fixture(scope="module")
def front():
    return front_of(*(NoiseJudge(i, -0.5, own=0.1) for i in (0, 1)), count=9)


def test_the_best_net_within_a_limit_is_picked(front):
    assert pick(front, "macs=5").widths == {"a": 5}
    assert pick(front, "5.5").widths == {"a": 5}
    assert pick(front, "params=0.5").widths == {"a": 4}  # of the largest, 8
    assert pick(front, "peak_activation_bytes=7B").widths == {"a": 7}
    assert pick(front, "macs=1G").widths == {"a": 8}
    assert pick(front, "l1=-1.8").widths["a"] == 4  # the cheapest that is as good
    assert pick(front, f"l1={front.nets[0].value}") == front.nets[0]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("macs=0.1", r"no net of the front is within macs \(exact\) 0.8.*; the least is 1\b.*There "
         r"are: 1 MACs \(l1 -0\.\d+\), 2 MACs"),
        ("flops=3", r"pick 'flops=3': budget: unknown measure 'flops'"),
        ("latency_ms=3", "a front holds no measured latency; give macs, params"),
        ("macs=many", "'many', which is no positive number"),
        ("l1=-9", r"no net of the front has l1 ≤ -9. There are: 1 MACs"),
        ("l1=small", "pick: l1=small is no number; give one, such as l1="),
    ],
)  # fmt: skip
def test_a_pick_that_cannot_be_had_says_what_there_is(front, limit, said):
    with pytest.raises(InputError, match=said):
        pick(front, limit)


# files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fronts") / "one"
    torch.manual_seed(0)
    supernet = gfx.supernet(gfx.zoo.build("dcgan", ngf=8, image_size=8), widths=[0.5, 1.0])
    split = split_examples(tasks.inputs(torch.randn(40, 100, 1, 1)), examples=8)
    judge = SupernetJudge(supernet, split.searched)
    nets = [supernet.largest(), supernet.smallest(), *(supernet.sample(0, i) for i in range(6))]
    prices = supernet.price(nets)
    found = [
        SearchedNet(w, {m: int(prices[m][i]) for m in MEASURES}, j.value)
        for i, (w, j) in enumerate(zip(nets, judge.judge(nets), strict=True))
    ]
    fresh = judge.anew(split.fresh)
    front = make_front(found, fresh, found[0], searched_examples=8, about=("drawn",))
    widths = [n.widths for n in front.nets]
    pictures = front_pictures(fresh, widths, supernet.largest())
    return folder, write_front(folder, front, [judge.deliver(w) for w in widths], pictures), fresh


def test_a_front_is_read_as_it_was_written(written):
    folder, front, _ = written
    assert read_front(folder) == read_front(folder / FRONT) == front
    assert {p.name for p in folder.iterdir()} == {"front.json", "nets", "samples"}


def test_the_net_of_a_front_is_the_one_that_was_judged(written):
    folder, front, fresh = written
    for each in front.nets:
        small = net_of(folder, each)
        assert gfx.cost(small, torch.zeros(1, 100, 1, 1)).params == each.prices["params"]
        on = fresh.on
        made = torch.cat([on.unit(on.task.generate(small.eval(), b)) for b in on.batches])
        whole = fresh.deliver(fresh.net.largest())
        wanted = torch.cat([on.unit(on.task.generate(whole.eval(), b)) for b in on.batches])
        again = float((made - wanted).double().abs().mean().detach())
        assert each.value == pytest.approx(again, rel=1e-4, abs=1e-7)


def changed(text, **fields):
    """Writes other fields into a front, with the seal that fits them."""
    data = {**json.loads(text), **fields}
    del data["seal"]
    return json.dumps({**data, "seal": front_seal(data)})


@law(20, swept=60)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_front_that_was_spoilt_is_refused(written, tmp_path_factory, at, bit):
    data = bytearray((written[0] / FRONT).read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    path = tmp_path_factory.mktemp("spoilt") / FRONT
    path.write_bytes(data)
    try:
        found = read_front(path)
    except ArchiveError as error:
        found = str(error)
    same = found == written[1]  # as where a space became another
    assert same or re.search("put back what the search wrote|is truncated or damaged", found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t[: len(t) // 2], "is truncated or damaged"),
        (lambda t: "[]", "is no front of gfx search; put back what the search wrote"),
        (lambda t: changed(t, kind="gfx front 99"), "is no front of gfx search"),
        (lambda t: changed(t, nets=3), r"is no front of gfx search \(.*expected"),
        (lambda t: changed(t, measure="../x"), r"its measure is \.\./x"),
        (lambda t: changed(t, whole={**json.loads(t)["whole"], "prices": {}}), "has no price"),
        (lambda t: changed(t, nets=[{**json.loads(t)["nets"][0], "file": "/etc/passwd"}]),
         "/etc/passwd is no file of the folder"),
        (lambda t: changed(t, nets=[{**json.loads(t)["nets"][0], "picture": "../a.png"}]),
         "is no file of the folder"),
        (lambda t: changed(t, nets=[{**json.loads(t)["nets"][0], "better": [1.0]}]),
         "a difference has 1 numbers"),
    ],
)  # fmt: skip
def test_a_foreign_front_is_refused(written, tmp_path, change, said):
    text = (written[0] / FRONT).read_text()
    (tmp_path / FRONT).write_text(change(text))
    with pytest.raises(ArchiveError, match=said):
        read_front(tmp_path)


def test_a_net_that_is_another_is_refused(written, tmp_path):
    folder, front, _ = written
    one, other = front.nets[:2]
    with pytest.raises(ArchiveError, match="is not the net that was judged"):
        net_of(folder, replace(one, file=other.file))
    with pytest.raises(ArchiveError, match="does not exist"):
        net_of(tmp_path, one)
    with pytest.raises(ArchiveError, match="does not exist"):
        read_front(tmp_path)


# the folder and the examples


def test_a_folder_is_of_one_search(tmp_path):
    folder = tmp_path / "a"
    with claimed_folder(folder, {"seed": 0, "by": "random"}):  # noqa: SIM117 - one in the other
        with (
            pytest.raises(InputError, match="is in use by another process; wait for it"),
            claimed_folder(folder, {"seed": 0, "by": "random"}),
        ):
            pass
    with claimed_folder(folder, {"seed": 7}):  # nothing was judged: it may be asked anew
        pass
    with claimed_folder(folder, {"seed": 0, "by": "random"}) as path:
        (path / "ledger.jsonl").touch()
    with claimed_folder(folder, {"seed": 0, "by": "random"}):
        pass
    with (
        pytest.raises(InputError, match="asked for something else:\n  seed: was 0, now 1\ngive"),
        claimed_folder(folder, {"seed": 1, "by": "random"}),
    ):
        pass
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").touch()
    with (
        pytest.raises(InputError, match=r"holds 'c.txt' and no search.json: it is no folder of a"),
        claimed_folder(tmp_path / "b", {}),
    ):
        pass


def keys(examples):
    return {key for batch in examples.batches for key in batch.keys}


def test_the_front_is_judged_on_examples_that_were_not_searched_on():
    for count in (8, 20, 300):
        task = tasks.inputs(torch.randn(count, 3))
        for fits in (False, True):
            split = split_examples(task, examples=16, fits=fits)
            assert not keys(split.searched) & keys(split.fresh)
            assert split.fresh.count >= 4
            if fits:
                assert not keys(split.fit) & keys(split.fresh)
    assert not keys(split.fit) & keys(split.searched)
    assert "layers are refitted on" in split.about[1]


def test_latents_that_are_drawn_are_others_for_the_front():
    task = tasks.open_task(None, gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
    split = split_examples(task, examples=64)
    first, second = (
        torch.cat([b.tensors["x0"] for b in e.batches]) for e in (split.searched, split.fresh)
    )
    assert not {float(x.sum()) for x in first} & {float(x.sum()) for x in second}


def test_too_few_examples_are_refused():
    with pytest.raises(
        InputError, match=r"a search needs 8 examples, .* and data has 7; give more"
    ):
        split_examples(tasks.inputs(torch.zeros(7, 3)))
    with pytest.raises(InputError, match="examples=3 are too few to search on; give 4 or more"):
        split_examples(tasks.inputs(torch.zeros(70, 3)), examples=3)
