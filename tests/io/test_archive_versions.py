"""Files that version 0.1.0 wrote still load, and compute what they did."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import gfx
from gfx.ir.modules import ChannelMask, Tap

DATA = Path(__file__).parents[1] / "data"
KINDS = ("pruned", "masked", "tapped")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_0_1_0_computes_what_it_did(kind: str) -> None:
    kept = load_file(DATA / "outputs-0.1.0.safetensors")
    model = gfx.load(DATA / f"{kind}-0.1.0.gfx")
    with torch.no_grad():
        torch.testing.assert_close(model(kept["x"]), kept[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_0_1_0_has_its_report(kind: str) -> None:
    report = gfx.report(gfx.load(DATA / f"{kind}-0.1.0.gfx"))
    assert report.source == "Generator"
    assert report.gfx_version == "0.1.0"
    assert report.verified


@pytest.mark.parametrize(("kind", "layer"), [("masked", ChannelMask), ("tapped", Tap)])
def test_masks_and_taps_of_0_1_0_are_what_they_were(kind: str, layer: type) -> None:
    model = gfx.load(DATA / f"{kind}-0.1.0.gfx")
    assert any(isinstance(module, layer) for module in model.modules())


def test_masks_of_0_1_0_go_on_with_their_schedule() -> None:
    model = gfx.load(DATA / "masked-0.1.0.gfx")
    schedule = gfx.schedule(model, torch.optim.SGD(model.parameters(), lr=0.01))
    while not schedule.done:
        schedule.step()
    small = gfx.apply("convert", model)
    assert small.stem.out_channels == 4


def test_what_0_1_0_wrote_is_written_again_as_it_is(tmp_path: Path) -> None:
    for kind in KINDS:
        model = gfx.load(DATA / f"{kind}-0.1.0.gfx")
        gfx.save(model, tmp_path / "again.gfx")
        again = gfx.load(tmp_path / "again.gfx")
        state, other = model.state_dict(), again.state_dict()
        assert state.keys() == other.keys()
        assert all(torch.equal(state[name], other[name]) for name in state)


def test_pickled_layers_of_0_1_0_open_without_trust() -> None:
    model = gfx.open_model(DATA / "layers-0.1.0.pt")
    assert [type(layer) for layer in model] == [nn.Conv2d, ChannelMask]


def test_a_pickled_result_of_0_1_0_computes_what_it_did_and_has_its_report() -> None:
    model = gfx.open_model(DATA / "result-0.1.0.pt", trust=True)
    assert model(torch.ones(1, 3, 8, 8)).sum().item() == pytest.approx(-8.1199, abs=1e-3)
    passes = [done.name for done in gfx.report(model).passes]
    assert passes == ["fast_instance_norm", "channel_prune", "mask", "distill_taps"]
    assert gfx.report(model).record.sample is not None


def test_a_class_that_0_1_0_had_not_is_still_an_error(tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes(b"\x80\x02cgfx.modules.masks\nNone_such\nq\x00.")
    with pytest.raises(gfx.ArchiveError, match=r"odd\.pt"):
        gfx.open_model(tmp_path / "odd.pt", trust=True)
