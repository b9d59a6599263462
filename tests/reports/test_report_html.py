"""A report as a page: what it shows is true, it escapes everything and asks for nothing."""

import base64
import io
import re
from dataclasses import replace
from functools import cache
from html import escape, unescape

import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx.deploy.bench import bench
from gfx.pipeline.report import attach
from gfx.reports.result import Latency, TimedNode, drawing, page
from gfx.reports.result.facts import facts_of
from gfx.reports.result.latency_section import latency_of
from support.browsing import CONTRAST, chromium, needs_browser, opened
from support.html_pages import parsed
from support.sensitivity_tables import HOSTILE, generator, image

RECIPE = {
    "about": f"</pre>{HOSTILE}",
    "passes": [{"channel_prune": {"ratio": 0.5}}],
}
RESIDUAL = "residual \N{MULTIPLICATION SIGN}10"


@cache
def small():
    return gfx.apply(RECIPE, generator(), image())


@cache
def shown() -> str:
    return page(small())


@cache
def deep(blocks: int = 110):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.inner = nn.ModuleList(nn.Conv2d(4, 8, 1) for _ in range(blocks))
            self.outer = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(blocks))
            self.last = nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x):
            x = self.first(x)
            for inner, outer in zip(self.inner, self.outer, strict=True):
                x = x + outer(torch.relu(inner(x)))
            return torch.tanh(self.last(x))

    torch.manual_seed(0)
    return gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, Deep().eval(), image())


def without_record(module):
    """The same module as a file of before gfx kept a record of the original."""
    old = gfx.Program(module, ()).copy().module
    attach(old, replace(gfx.report(module), record=None))
    old.meta["gfx_inputs"] = module.meta["gfx_inputs"]
    return old


def pictures(text: str) -> dict[str, np.ndarray]:
    from PIL import Image

    found = {}
    for tag, attributes in parsed(text).tags:
        if tag == "img":
            data = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
            found[attributes["alt"]] = np.array(Image.open(io.BytesIO(data)))
            size = (int(attributes["height"]), int(attributes["width"]))
            assert found[attributes["alt"]].shape[:2] == size
    return found


def rows(text: str) -> dict[str, str]:
    """Returns the class of each layer's row in the drawing, by what it is called."""
    found = re.findall(r'<g class="(row[^"]*)" tabindex="0" role="img" aria-label="([^:]*):', text)
    return {unescape(name): css for css, name in found}


@pytest.mark.parametrize("make", [small, deep])
def test_every_tag_is_closed(make):
    parsed(page(make()))


def test_nothing_is_loaded_from_anywhere_and_nothing_runs():
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", shown()).replace("data:,", "")
    for reference in ("http:", "https:", "//", "@import", "url(", "<script", "javascript:"):
        assert reference not in text, reference


def test_hostile_names_and_recipes_are_escaped():
    assert HOSTILE not in shown()
    assert shown().count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert HOSTILE in "".join(parsed(shown()).text)


def test_a_hostile_report_is_escaped_all_over():
    report = gfx.report(small())
    bad = f'"><b>{HOSTILE}</b>'
    (pass_,) = report.passes
    layers = tuple(replace(layer, stage=bad, kind=bad) for layer in report.record.layers)
    pass_ = replace(pass_, name=bad, asked=(bad,), spec={bad: bad}, details={bad: {bad: bad}})
    pass_ = replace(
        pass_,
        changes=tuple(replace(c, node=bad, what=bad, after=bad) for c in pass_.changes),
        skips=tuple(replace(s, node=bad, why=bad) for s in pass_.skips),
        checks=tuple(replace(c, name=bad, detail=bad) for c in pass_.checks),
    )
    sample = replace(report.record.sample, told=bad)
    report = replace(
        report,
        source=bad,
        frontend=bad,
        inputs=(bad,),
        assumed=(bad,),
        notes=(bad,),
        opaque=((bad, bad),),
        passes=(pass_,),
        gfx_version=bad,
        torch_version=bad,
        recipe={bad: bad},
        record=replace(report.record, layers=layers, sample=sample),
    )
    module = without_record(small())
    attach(module, report)
    text = page(module, latency=Latency((TimedNode(bad, bad, 1.0, 1.0),), (bad,)), sensitivity=bad)
    tags = {tag for tag, _ in parsed(text).tags}
    assert not tags & {"b", "script"}


def test_the_residual_is_ten_times_the_difference_of_the_pixels():
    found = pictures(shown())
    assert list(found) == ["input", "original output", "compressed output", RESIDUAL]
    gap = found["original output"].astype(int) - found["compressed output"].astype(int)
    assert np.array_equal(found[RESIDUAL], np.minimum(10 * abs(gap), 255))
    assert gap.any()
    assert found["input"].shape == (16, 16, 3)
    assert f"mean difference {abs(gap).mean():.2f} of 255, largest {abs(gap).max()}" in shown()


def test_the_compressed_output_is_what_the_compressed_program_gives():
    sample = gfx.report(small()).record.sample
    with torch.no_grad():
        given = small()(sample.inputs[0].tensor())
    pixels = ((given[0] + 1) * 127.5).clamp(0, 255).permute(1, 2, 0).numpy()
    if sample.output.low == -1:
        assert abs(pictures(shown())["compressed output"] - pixels).max() <= 0.51
    else:
        low, high = sample.output.low, sample.output.high
        pixels = ((given[0] - low) / (high - low) * 255).clamp(0, 255).permute(1, 2, 0).numpy()
        assert abs(pictures(shown())["compressed output"] - pixels).max() <= 0.51


def test_a_pass_that_changes_no_value_leaves_no_residual():
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1), nn.Tanh())
    torch.manual_seed(0)
    model = nn.Sequential(*layers).eval()
    text = page(gfx.apply({"passes": ["fuse_batch_norm"]}, model, image()))
    assert pictures(text)[RESIDUAL].max() <= 10  # rounding


def test_layers_of_one_group_have_one_class_and_every_class_a_colour():
    css = rows(shown())
    assert css["down"] == css["block.conv2"] != css["block.conv1"]
    assert len(set(css.values())) == 5  # stem, down with the block's output, conv1, up, last
    families = facts_of(small()).families
    for family in families:
        coloured = f".g{family.number} {{ --group: oklch(" in shown()
        assert coloured == (family.pinned is None)
        assert f'id="about-{family.number}"' in shown()


def test_boxes_are_as_wide_as_channels_before_and_after():
    (row,) = re.findall(r'aria-label="down:.*?</g>', shown())
    was, now = (float(w) for w in re.findall(r'class="(?:was|now)".*?width="([\d.]+)"', row))
    assert now / was == pytest.approx(0.5, abs=0.01)
    assert "out 16 → 8" in row
    assert "16 → 8</text>" in row


def test_what_is_said_of_a_group_names_members_widths_and_pins():
    said = {
        name: " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())
        for body in re.findall(r'<div class="about.*?</div>', shown())
        for name in [unescape(re.search("<strong>(.*?)</strong>", body)[1])]
    }
    assert said["down"].startswith("down 16 → 8 channels Its channels may be removed.")
    assert "written by down, block.conv2" in said["down"]
    assert "read by block.conv1, up" in said["down"]
    assert "Stays as it is: its channels are the model's output" in said[HOSTILE]


def test_stages_add_up_to_the_cost_of_the_report():
    facts = facts_of(small())
    report = gfx.report(small())
    assert sum(s.macs[0].exact for s in facts.stages) == report.before.macs.exact
    assert sum(s.macs[1].exact for s in facts.stages) == report.after.macs.exact
    assert sum(s.params[0] for s in facts.stages) == report.before.params
    assert sum(s.params[1] for s in facts.stages) == report.after.params


def test_a_skip_connection_is_an_arc():
    facts = facts_of(small())
    names = [e.node for e in facts.network.elements]
    long = [(e.source, e.target) for e in facts.network.edges if e.target > e.source + 1]
    assert [(names[a], names[b]) for a, b in long] == [("down", "add")]
    assert shown().count('class="arc g') == 1


def test_parts_of_a_decomposed_layer_have_its_stage_and_its_group():
    small = gfx.apply({"passes": ["decompose"]}, generator(), image())
    facts = facts_of(small)
    pairs = {pair.now.path: pair for pair in facts.pairs}
    assert pairs["block.conv1.depthwise"].part_of == "block.conv1"
    assert pairs["block.conv1.depthwise"].stage == pairs["block.conv1.pointwise"].stage == "body"
    css = rows(page(small))
    assert css["block.conv1.depthwise"] == css["down.pointwise"]
    assert "a part of what was block.conv1" in page(small)


def test_an_old_file_says_what_is_missing_and_the_original_fills_it_in():
    old = without_record(small())
    text = page(old)
    assert "--original MODEL" in text
    assert pictures(text) == {}
    assert "16 → 8</text>" not in text
    again = page(old, original=generator(), inputs=image())
    assert pictures(again).keys() == pictures(shown()).keys()
    assert "16 → 8" in again


def test_another_original_is_refused():
    other = nn.Conv2d(3, 3, 1)
    with pytest.raises(gfx.InputError, match="--original is a Conv2d of 12 parameters"):
        page(small(), original=other, inputs=image())


def test_a_program_without_images_says_so():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    text = page(gfx.apply({"passes": []}, model, torch.zeros(1, 4)))
    assert "There are no pictures: its output is no image: 1x2." in text
    assert pictures(text) == {}


def test_a_latent_is_named_where_there_is_no_picture_of_the_input():
    text = page(gfx.apply({"passes": []}, gfx.zoo.build("dcgan", ngf=4).eval()))
    assert "The input is no image (float32 1x100x1x1)" in text
    assert "input" not in pictures(text)


def test_without_verification_the_page_says_so():
    text = page(gfx.apply(RECIPE, generator(), image(), verify=False))
    assert "NOT VERIFIED" in text
    assert "Not verified: nothing was checked" in text
    assert "verify=False, so the original was not run" in text


def test_a_program_that_was_cast_since_is_shown():
    cast = gfx.Program(small(), ()).copy().module.double()
    cast.meta["gfx_inputs"] = small().meta["gfx_inputs"]
    found = pictures(page(cast))
    gap = found["compressed output"].astype(int) - pictures(shown())["compressed output"]
    assert abs(gap).max() <= 1


def test_a_program_with_two_hundred_layers_is_drawn_whole_and_stays_small():
    text = page(deep())
    assert len(rows(text)) == 222
    assert len(text) < 600_000
    assert text.count('class="arc') == 110


def test_a_page_is_the_same_twice():
    assert page(small()) == shown()
    assert len(shown()) < 200_000


def test_what_was_measured_is_shown():
    timed = (
        TimedNode("up", "ConvTranspose2d", 30.0, 0.75, 2e9),
        TimedNode("add", "call_function", 10.0, 0.25),
    )
    table = gfx.inspect(small(), fast=True)
    text = page(small(), latency=Latency(timed, ("40 ms on a machine",)), sensitivity=table)
    for part in ("40 ms on a machine", "2.00 G", "75.0%", "relative_l2 of the compressed program"):
        assert part in text
    for row in table:
        assert f"{row.damage[0.5]:.3g}" in text if row.damage[0.5] is not None else True


def test_a_profile_is_written_down_as_it_was_measured():
    ticks = (i * 0.001 for i in range(100_000))  # no time passes but by looking at the clock
    measured = bench(small(), rounds=5, memory=False, clock=lambda: next(ticks))
    found = latency_of(measured)
    assert [row.node for row in found.rows][:1] == ["stem"]
    assert sum(row.share for row in found.rows) == pytest.approx(1)
    assert found.notes[0].startswith("1 ms a run (median; 10 % take 1 ms or less")
    text = page(small(), latency=found)
    assert escape(found.notes[0]) in text
    assert latency_of(replace(measured, profile="it has no graph")) == (
        "Not measured: it has no graph."
    )


def test_the_chart_is_a_png_and_the_same_twice():
    first = drawing(small())
    assert first.startswith(b"\x89PNG")
    assert drawing(small()) == first
    assert drawing(without_record(small())) != first


# in a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser, tmp_path):
    with opened(browser, tmp_path / "report.html", shown()) as tab:
        yield tab


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(tab, scheme):
    tab.emulate_media(color_scheme=scheme)
    for selector in ("h1", "dt", ".times", ".stage", ".check", ".net .name", "pre", "caption"):
        assert tab.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


@needs_browser
@pytest.mark.parametrize("width", [360, 760, 1600])
@pytest.mark.parametrize("make", [small, deep])
def test_no_window_is_too_narrow(browser, tmp_path, make, width):
    table = gfx.inspect(small(), fast=True) if make is small else "none"
    with opened(browser, tmp_path / "report.html", page(make(), sensitivity=table)) as tab:
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


CUT = """() => [...document.querySelectorAll("main *")].filter(
    e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX != "visible"
         && e.clientWidth > 0).map(e => e.closest("section").querySelector("h2").innerText)"""
EMPTY = """() => [...document.querySelectorAll("section.card")].filter(
    e => e.innerText.trim() == e.querySelector("h2").innerText.trim()).map(e => e.innerText)"""


@cache
def long_names():
    name = "a_block_whose_name_is_as_long_as_in_networks_of_many_nested_modules"
    inner = nn.ModuleDict({name: nn.Conv2d(3, 8, 1)})

    class Long(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder_up_blocks, self.last = inner, nn.Conv2d(8, 3, 1)

        def forward(self, x):
            return self.last(self.decoder_up_blocks[name](x).relu())

    return gfx.apply(RECIPE, Long().eval(), image())


@needs_browser
@pytest.mark.parametrize("make", [small, long_names])
def test_on_a_telephone_tables_are_stacked_under_their_headings(browser, tmp_path, make):
    nodes = [change.node for pass_ in gfx.report(make()).passes for change in pass_.changes]
    timed = tuple(TimedNode(node, "ConvTranspose2d", 30.0, 0.2, 2e9) for node in nodes)
    text = page(
        make(), latency=Latency(timed, ("40 ms",)), sensitivity=gfx.inspect(make(), fast=True)
    )
    with opened(browser, tmp_path / "report.html", text) as tab:
        tab.set_viewport_size({"width": 375, "height": 900})
        # the drawing of the network alone is wider, and scrolls
        assert set(tab.evaluate(CUT)) <= {"The network and its channel groups"}
        assert tab.evaluate(EMPTY) == []
        cell = tab.locator('[aria-label="Sensitivity by layer"] td[data-label="narrow to 50 %"]')
        heading = "cell => getComputedStyle(cell, '::before').content"
        assert cell.first.evaluate(heading) == '"narrow to 50 %"'
        tab.set_viewport_size({"width": 1440, "height": 900})
        assert cell.first.evaluate(heading) == "none"


@needs_browser
@pytest.mark.parametrize("width", [800, 1280, 1440, 1920])
@pytest.mark.parametrize("make", [small, deep])
def test_no_table_is_cut_and_no_card_is_empty(browser, tmp_path, make, width):
    table = gfx.inspect(make(), fast=True)
    with opened(browser, tmp_path / "report.html", page(make(), sensitivity=table)) as tab:
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate(CUT) == []
        assert tab.evaluate(EMPTY) == []


def test_nothing_is_written_as_cut_json():
    text = page(small())
    assert '..."' not in text
    assert "[{&quot;" not in text


@needs_browser
def test_pictures_are_seen(tab):
    sizes = tab.locator("img").evaluate_all("all => all.map(i => [i.naturalWidth, i.width > 90])")
    assert sizes == [[16, True]] * 4


@needs_browser
def test_pointing_at_a_layer_shows_its_group_and_dims_the_others(tab):
    (number,) = [f.number for f in facts_of(small()).families if f.name == "down"]
    about = tab.locator(f"#about-{number}")
    assert not about.is_visible()
    tab.locator('.net .row[aria-label^="block.conv2:"]').hover()
    assert about.is_visible()
    assert "may be removed" in about.inner_text()
    other = tab.locator('.net .row[aria-label^="up:"]')
    assert float(other.evaluate("row => getComputedStyle(row).opacity")) < 0.3
    same = tab.locator('.net .row[aria-label^="down:"]')
    assert same.evaluate("row => getComputedStyle(row).opacity") == "1"


@needs_browser
def test_a_tap_and_a_keyboard_show_it_too(tab):
    numbers = {f.name: f.number for f in facts_of(small()).families}
    tab.locator('.net .row[aria-label^="up:"]').click()
    tab.mouse.move(5, 5)
    assert tab.locator(f"#about-{numbers['up']}").is_visible()
    tab.locator('.net .row[aria-label^="stem:"]').focus()
    assert tab.locator(f"#about-{numbers['stem']}").is_visible()
    tab.keyboard.press("Tab")
    assert tab.locator(f"#about-{numbers['down']}").is_visible()
    assert not tab.locator(f"#about-{numbers['stem']}").is_visible()


@needs_browser
def test_on_a_telephone_what_is_said_of_a_group_is_beside_the_finger(tab):
    tab.set_viewport_size({"width": 390, "height": 600})
    row = tab.locator('.net .row[aria-label^="stem:"]')
    row.click()
    number = {f.name: f.number for f in facts_of(small()).families}["stem"]
    box = tab.locator(f"#about-{number}").bounding_box()
    assert 0 <= box["y"] <= box["y"] + box["height"] <= 601


@needs_browser
def test_layers_of_one_group_are_of_one_colour_on_the_screen(tab):
    colours = {
        name: tab.locator(f'.net .row[aria-label^="{name}:"] .now').evaluate(
            "box => getComputedStyle(box).fill"
        )
        for name in ("stem", "down", "block.conv1", "block.conv2", "up")
    }
    assert colours["down"] == colours["block.conv2"]
    assert len(set(colours.values())) == 4
