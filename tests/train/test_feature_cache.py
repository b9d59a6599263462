"""What is kept of real images is known by its content, bounded, and never needed."""

import os

import pytest
import torch

from gfx.train.runs.feature_cache import FeatureCache
from support.training_runs import DISTIL, compressed


class Means(torch.nn.Module):
    """Features of images: what each channel is in the mean, and its spread."""

    def forward(self, x):
        return torch.cat((x.mean((2, 3)), x.std((2, 3))), 1)


def test_a_file_is_read_as_it_was_written_or_not_at_all(tmp_path):
    cache = FeatureCache(tmp_path / "features")
    assert cache.read("one") is None
    cache.write("one", bytes(range(64)))
    assert FeatureCache(tmp_path / "features").read("one") == bytes(range(64))
    path = tmp_path / "features" / "one.features"
    for spoilt in (b"", path.read_bytes()[:-1], bytes(64), bytes(range(65))):
        path.write_bytes(spoilt)
        assert cache.read("one") is None
        cache.write("one", bytes(range(64)))
        assert cache.read("one") == bytes(range(64))
    for name in ("features", "sha256"):  # of other images, with their seal
        (tmp_path / "features" / f"other.{name}").write_bytes(
            (tmp_path / "features" / f"one.{name}").read_bytes()
        )
    assert cache.read("other") is None
    path.unlink()
    path.mkdir()
    assert cache.read("one") is None


def test_what_was_not_used_for_long_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr("gfx.train.runs.feature_cache._BYTES", 100)
    cache = FeatureCache(tmp_path)
    for number, name in enumerate(("a", "b", "c")):
        cache.write(name, bytes(33))
        os.utime(tmp_path / f"{name}.features", (number, number))
    assert cache.read("a") == bytes(33)  # used now
    cache.write("d", bytes(33))
    cache.write("too large", bytes(101))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{ending}" for name in "acd" for ending in ("features", "sha256")
    ]


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file" / "features")
    cache.write("one", bytes(8))
    assert cache.read("one") is None


@pytest.mark.parametrize("spoil", [False, True])
def test_a_second_run_has_the_same_scores_whatever_was_kept(tmp_path, monkeypatch, spoil):
    monkeypatch.setenv("GFX_CACHE", str(tmp_path / "cache"))
    metric = f"fd[{__name__}:Means]"

    def scores(folder):
        return compressed(DISTIL, run=tmp_path / folder, metrics=["l1", metric], val=0.5).scores

    first = scores("first")
    (kept,) = (tmp_path / "cache" / "features").glob("*.features")
    content = kept.read_bytes()
    if spoil:
        kept.write_bytes(content[:-8])
    assert scores("second") == first
    assert kept.read_bytes() == content
