"""Files that version 0.1.0 wrote still load, and compute what they did."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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
