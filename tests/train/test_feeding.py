"""What step t sees is a function of (task, seed, t): not of workers, ranks, caches or the start."""

import random
import threading
import warnings
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfx.errors import InputError
from gfx.train import tasks
from gfx.train.feeding import Loader
from support.laws import law
from support.picture_folders import write_pictures
from support.task_kinds import KINDS, images, joined, same_batch, shown

kinds = st.sampled_from(sorted(KINDS))
each_kind = pytest.mark.parametrize("kind", KINDS)


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("gfx batches")]


@law(60)
@given(kinds, st.integers(1, 12), st.integers(1, 5), st.integers(0, 9), st.integers(1, 3))
def test_a_stream_gives_the_batch_of_each_step_whatever_the_workers_and_the_start(
    kind, count, size, start, workers
):
    task = KINDS[kind](count)
    loader = Loader(task, size, seed=3, workers=workers)
    stream = loader.stream(start)
    for step, batch in zip(range(start, start + 4), stream, strict=False):
        assert same_batch(batch, Loader(task, size, seed=3, workers=0).at(step))
    stream.close()
    assert threads() == []


@law(60)
@given(kinds, st.integers(1, 20), st.integers(1, 3), st.sampled_from([2, 4]), st.integers(0, 5))
def test_ranks_see_together_what_one_sees_with_the_whole_batch(kind, count, size, ranks, step):
    task = KINDS[kind](count)
    parts = [Loader(task, size, 1, rank, ranks).at(step) for rank in range(ranks)]
    assert same_batch(joined(parts), Loader(task, size * ranks, 1).at(step))


@law(60)
@given(kinds, st.integers(1, 6), st.integers(0, 3))
def test_equal_keys_mean_equal_tensors(kind, count, seed):
    loader = Loader(KINDS[kind](count), 3, seed)
    seen, given_to = {}, {}
    for step in range(6):
        batch = loader.at(step)
        for row in range(3):
            one = batch.rows(slice(row, row + 1))
            if one.keys[0]:
                assert seen.setdefault(one.keys[0], shown(one)) == shown(one)
            if one.input_keys[0]:
                inputs = [x.numpy().tobytes() for x in loader.task.inputs(one)]
                assert given_to.setdefault(one.input_keys[0], inputs) == inputs


@law(40)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 3))
def test_an_epoch_sees_every_example_once(count, size, epoch):
    loader = Loader(tasks.inputs(torch.arange(count)), size)
    steps = loader.steps_per_epoch
    seen = [int(x) for s in range(steps) for x in loader.at(epoch * steps + s).tensors["x0"]]
    if count < size:
        assert set(seen) == set(range(count))
        assert len(seen) == size
        assert "come again" in loader.about[0]
    else:
        assert len(set(seen)) == len(seen) == count - count % size
        assert bool(loader.about) == bool(count % size)


@each_kind
def test_nothing_touches_the_global_random_state(kind):
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    loader = Loader(KINDS[kind](6), 2)
    _ = list(islice(loader.stream(), 4))
    after = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


@each_kind
def test_the_global_random_state_changes_nothing(kind):
    first = Loader(KINDS[kind](6), 2).at(3)
    torch.manual_seed(99), random.seed(99), np.random.seed(99)
    assert same_batch(first, Loader(KINDS[kind](6), 2).at(3))


@each_kind
def test_epochs_differ_and_seeds_differ(kind):
    loader = Loader(KINDS[kind](9), 4)
    batches = [loader.at(0), loader.at(loader.steps_per_epoch), Loader(loader.task, 4, 1).at(0)]
    assert not any(same_batch(batches[a], batches[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("cache", [0, 300, 1 << 30])
def test_a_cache_changes_no_value(tmp_path, cache):
    folder = write_pictures(tmp_path / "a", 5, (9, 12))
    plain = Loader(tasks.latent(folder, 4, size=8), 2, cache_bytes=0)
    task = tasks.latent(folder, 4, size=8)
    cached = Loader(task, 2, cache_bytes=cache)
    for step in (0, 1, 2, 3, 0):
        assert same_batch(plain.at(step), cached.at(step))
    kept = task.source.pictures._bytes
    assert kept <= cache
    assert bool(kept) == bool(cache)


class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            raise OSError("the disk is on fire")
        return torch.full((1,), index)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_what_a_worker_raises_is_raised_at_its_step(workers):
    loader = Loader(tasks.inputs(Failing()), 1, workers=workers)
    bad = loader._permutation(0).index(5)
    stream = loader.stream()
    for _ in range(bad):
        assert int(next(stream).tensors["x0"]) != 5
    match = "reading example 5 of the Failing fails: OSError: the disk is on fire"
    with pytest.raises(InputError, match=match):
        next(stream)
    assert threads() == []


def test_a_stream_that_is_dropped_stops_its_threads():
    stream = Loader(tasks.inputs(images(8)), 2, workers=2).stream()
    next(stream)
    assert threads() != []
    del stream
    assert threads() == []


def test_only_a_bounded_number_of_batches_is_made_ahead():
    read = []

    class Counting(torch.utils.data.Dataset):
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            read.append(index)
            return torch.zeros(1)

    task = tasks.inputs(Counting())
    read.clear()
    stream = Loader(task, 1, workers=2).stream()
    next(stream)
    stream.close()
    assert len(read) <= 6


def test_threads_that_read_pictures_silence_nobody_else(tmp_path):
    folder = write_pictures(tmp_path / "a", 8)
    stream = Loader(tasks.latent(folder, 4), 4, workers=3, cache_bytes=0).stream()
    for _ in range(40):
        next(stream)
        with pytest.warns(UserWarning, match="of the training"):
            warnings.warn("of the training", stacklevel=1)
    stream.close()


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"rank": 2, "ranks": 2}, {"workers": -1}, {"rank": -1}]
)
def test_a_loader_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match=r"batch_size=.*rank=.*workers="):
        Loader(tasks.inputs(images(2)), **{"batch_size": 1, **wrong})
