"""The page of a front: what it shows is what front.json holds, whatever is in it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import gfx
from gfx.reports.front.front_page import front_page, write_front_page
from gfx.train.runs.sample_grids import GridLayout, SampleGrid, write_grid
from gfx.train.search.front import MEASURES, Front, FrontNet, SearchedNet
from gfx.train.search.front_file import write_front
from support.browsing import CONTRAST, chromium, needs_browser, opened
from support.html_pages import parsed
from support.sensitivity_tables import HOSTILE


def prices(cost):
    return dict.fromkeys(MEASURES, cost)


def net(at, value, better=(), **fields):
    cost = 1_000_000 * (at + 1)
    widths = {"stem.conv": 8 * (at + 1), "up.0.conv": 8}
    bounds = value - 0.01, value + 0.01
    return FrontNet(widths, prices(cost), value, *bounds, value - 0.005, better, **fields)


def front_of(count=3, **fields):
    nets = [net(0, 0.3)]
    nets += [net(at, 0.3 - 0.1 * at, (0.1, 0.05, 0.15)) for at in range(1, count - 1)]
    nets.append(net(count - 1, 0.3 - 0.1 * (count - 2) - 0.002, (0.002, -0.01, 0.014)))
    searched = tuple(
        SearchedNet({"stem.conv": 8}, prices(1_000_000 + 30_000 * k), 0.3 + 0.1 * math.sin(k))
        for k in range(40)
    )
    made = Front(
        "l1", False, "exact", 20, 64, tuple(nets), net(3, 0.1), searched, True, 43, True,
        ("no data was given: latents are drawn",),
    )  # fmt: skip
    return replace(made, **fields)


def words(text):
    return " ".join(" ".join(parsed(text).text).split())


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture for each net."""
    front = front_of()
    nets = []
    for at, each in enumerate(front.nets, 1):
        name = f"samples/{at:02d}.png"
        pixels = torch.from_numpy(np.full((8, 24, 3), 40 * at, np.uint8))
        write_grid(
            tmp_path / name, SampleGrid(pixels, GridLayout(("input", "original", "subnet"), 8, 8))
        )
        nets.append(replace(each, picture=name, file=f"nets/{at:02d}.gfx"))
    return tmp_path, replace(front, nets=tuple(nets))


def test_it_says_what_was_searched_and_what_each_net_is(folder):
    path, front = folder
    text = words(front_page(front, path, "DcganGenerator"))
    for part in (
        "DcganGenerator",
        "3 nets, judged again on 20 fresh examples; 1 within the noise of the one before",
        "score l1 lower is better",
        "judged 43 nets",
        "searched on 64 examples",
        "largest net, MACs 4.00 M",
        "net 1 1.00 M 25.0% 1,000,000 0.3 0.29 … 0.31 0.295 the cheapest",
        "better than the one before: by 0.1 (0.05 … 0.15)",
        "within the noise of the one before: by 0.002 (-0.01 … 0.014)",
        "no data was given: latents are drawn",
        "stem.conv 16 of 32",
        "file nets/02.gfx",
    ):
        assert part in text, part


def test_each_net_has_its_picture_in_the_page(folder):
    path, front = folder
    text = front_page(front, path)
    assert text.count("data:image/png;base64,") == 3
    assert text.count("input | original | subnet: an example a row") == 3
    (path / "samples" / "02.png").write_bytes(b"no picture")
    (path / "samples" / "03.png").unlink()
    text = front_page(front, path)
    assert text.count("data:image/png;base64,") == 1
    assert "samples/02.png cannot be read." in text
    assert "samples/03.png cannot be read." in text
    assert "There is no picture: the outputs are no images." in front_page(front_of(), path)


def test_a_front_that_cannot_tell_says_so(tmp_path):
    text = front_page(front_of(told=False), tmp_path)
    assert "cannot tell these 3 nets apart" in words(text)
    assert '<p class="state open">' in text


def test_values_that_are_not_finite_are_left_out_of_the_picture(tmp_path):
    nets = (net(0, 20.0), replace(net(1, math.inf), low=-math.inf, high=math.inf))
    nets = (nets[0], replace(nets[1], better=(math.inf, -math.inf, math.inf)))
    text = front_page(front_of(score="psnr", higher_is_better=True, nets=nets), tmp_path)
    assert text.count("<a class=") == 1
    assert "no bounds are known" in text
    none = front_page(front_of(nets=(replace(nets[1], better=()),)), tmp_path)
    assert "No net of the front has a finite score." in none


@pytest.mark.parametrize("measure", MEASURES)
def test_any_cost_may_be_across(measure, tmp_path):
    text = words(front_page(front_of(measure=measure), tmp_path))
    assert "1.00 M" in text


def test_text_of_others_is_escaped(tmp_path):
    made = front_of(about=tuple(HOSTILE))
    first = replace(made.nets[0], widths={text: 3 for text in HOSTILE}, file=HOSTILE[0])
    text = front_page(replace(made, nets=(first, *made.nets[1:])), tmp_path, HOSTILE[0])
    parsed(text)
    assert "<script>alert" not in text


def test_the_page_is_written_beside_its_front(tmp_path):
    nets = [gfx.trace(gfx.zoo.build("dcgan", ngf=4)).module] * 3
    write_front(tmp_path, front_of(), nets)
    path = write_front_page(tmp_path, "a model")
    assert path == tmp_path / "front.html"
    assert "a model" in words(path.read_text("utf-8"))


@needs_browser
def test_the_page_works_in_a_browser(folder, tmp_path):
    path, front = folder
    text = front_page(front, path, "DcganGenerator")
    with chromium() as browser, opened(browser, tmp_path / "page.html", text) as tab:
        shown = lambda: tab.eval_on_selector_all(  # noqa: E731
            "article.net", "all => all.filter(n => n.offsetParent !== null).map(n => n.id)"
        )
        assert shown() == ["net-2"]
        tab.hover("svg [data-net='0'] .reach")
        assert shown() == ["net-0"]
        tab.hover("h1")
        assert shown() == ["net-2"]  # what was chosen stays
        tab.click("svg [data-net='1'] .reach")
        tab.hover("h1")
        assert shown() == ["net-1"]
        tab.click("tbody tr[data-net='0'] th a")
        assert shown() == ["net-0"]
        tab.focus("svg [data-net='2']")
        assert shown() == ["net-2"]
        for width in (1400, 800, 400):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            cells = tab.query_selector_all("td, th, dd, dt, .state")
            assert min(cell.evaluate(CONTRAST) for cell in cells if cell.is_visible()) >= 4.5


@needs_browser
def test_without_its_script_all_nets_are_shown(folder, tmp_path):
    path, front = folder
    (tmp_path / "page.html").write_text(front_page(front, path), "utf-8")
    with chromium() as browser:
        tab = browser.new_context(java_script_enabled=False).new_page()
        tab.goto((tmp_path / "page.html").as_uri())
        assert all(tab.is_visible(f"#net-{at}") for at in range(3))
