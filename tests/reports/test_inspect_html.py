"""The HTML report, opened in a real browser: it sorts, filters, escapes, and asks for nothing."""

from html import escape
from itertools import pairwise

import pytest

from gfx.reports.sensitivity.sensitivity_page import page
from gfx.reports.sensitivity.table_text import described, remarks
from gfx.sensitivity.plans import Plans
from support.browsing import CONTRAST, chromium, needs_browser
from support.browsing import opened as opened_in
from support.sensitivity_tables import NAMES, table


class Opened:
    """The page in a browser."""

    def __init__(self, page):
        self.page = page

    def layers(self):
        return self.page.locator("#layers tbody tr:visible th").evaluate_all(
            "cells => cells.map(cell => cell.dataset.v)"
        )

    def click(self, heading, number=0):
        self.page.get_by_role("button", name=heading, exact=True).nth(number).click()
        return self.layers()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    with opened_in(browser, tmp_path / "report.html", page(table())) as tab:
        yield Opened(tab)


@needs_browser
def test_a_heading_sorts_and_sorts_back(opened):
    at_first = opened.layers()
    by_name = opened.click("layer")
    assert by_name == sorted(NAMES)
    assert opened.click("layer") == by_name[::-1]
    macs = {row.layer: row.macs for row in table()}
    assert [macs[name] for name in opened.click("MACs")] == sorted(macs.values(), reverse=True)
    assert opened.click("worth doing") == at_first


@needs_browser
def test_damage_sorts_by_its_value_and_what_was_not_measured_comes_last(opened):
    damage = {row.layer: row.damage[0.75] for row in table()}
    for worse_first in (False, True):
        shown = [damage[name] for name in opened.click("damage", 1)]
        known = [value for value in shown if value is not None]
        assert known == sorted(known, reverse=worse_first)
        assert shown[: len(known)] == known
        assert len(known) < len(shown)
    (head,) = opened.page.locator("th[aria-sort]").all()
    assert head.get_attribute("aria-sort") == "descending"


@needs_browser
def test_layers_are_filtered_by_name_and_by_stage(opened):
    opened.page.get_by_label("Show layers with").fill("CONV1")
    assert opened.layers() == [name for name in opened.layers() if "conv1" in name]
    assert "layers" in opened.page.locator("#count").inner_text()
    opened.page.get_by_label("Show layers with").fill("")
    opened.page.get_by_label("of stage").select_option("up")
    stages = {row.layer: row.stage for row in table()}
    assert {stages[name] for name in opened.layers()} == {"up"}
    assert opened.page.locator("#count").inner_text().startswith(f"{len(opened.layers())} of ")


@needs_browser
def test_a_hostile_name_is_shown_and_not_run(opened):
    (hostile,) = [name for name in NAMES if "<script>" in name]
    assert hostile in opened.page.locator("#layers").inner_text()
    assert opened.page.locator("#layers script").count() == 0


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(opened, scheme):
    opened.page.emulate_media(color_scheme=scheme)
    selectors = ["h1", "#layers td.advice", "#layers .stage", "#layers .note", "caption", "dt"]
    for selector in selectors:
        assert opened.page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


@needs_browser
def test_a_keyboard_sorts_too(opened):
    opened.page.get_by_role("button", name="layer", exact=True).focus()
    opened.page.keyboard.press("Enter")
    assert opened.layers() == sorted(NAMES)


@needs_browser
def test_a_narrow_window_scrolls_the_tables_and_not_the_page(opened):
    opened.page.set_viewport_size({"width": 400, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400


@needs_browser
@pytest.mark.parametrize("width", [600, 800, 1000, 1200])
def test_the_layers_are_seen_whole_without_scrolling_sideways(opened, width):
    opened.page.set_viewport_size({"width": width, "height": 800})
    hidden = "box => box.scrollWidth - box.clientWidth"
    assert opened.page.locator("#layers .scroll").evaluate(hidden) <= 0
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    over = "cells => cells.filter(c => c.getBoundingClientRect().right > innerWidth).length"
    assert opened.page.locator("#layers :is(th, td):visible").evaluate_all(over) == 0
    assert opened.click("layer") == sorted(NAMES)
    opened.page.locator("#find").fill(NAMES[0])
    assert opened.layers() == [NAMES[0]]


# without a browser


def test_the_page_is_complete_without_its_script():
    text = page(table())
    for row in table():
        assert f"{row.params:,}" in text
    for fact in [*described(table()).values(), *remarks(table(), table())]:
        assert escape(fact) in text


def test_every_layer_has_a_bar_for_its_damage_and_its_saving():
    text = page(table())
    measured = sum(d is not None for row in table() for d in row.damage.values())
    assert text.count('class="bar saving"') == measured
    assert text.count('class="bar"') >= measured


def test_nothing_is_loaded_from_anywhere():
    text = page(table())
    for reference in ("http:", "https:", "//", "@import", "url("):
        assert reference not in text.replace("data:,", ""), reference


def test_a_table_of_no_rows_makes_a_page():
    text = page(table().filter(layer="none"))
    assert "0 of 0 layers" in text
    assert "No change that was tried saves anything" in text


def test_the_curve_begins_with_the_gentlest_and_ends_with_everything():
    steps = Plans(table()).descent()
    assert all(a.saved < b.saved and a.damage <= b.damage for a, b in pairwise(steps))
    assert page(table()).count("<circle ") == len(steps)


def test_what_changes_save_together_is_what_pruning_saves():
    plans = Plans(table())
    up = [row for row in table() if row.stage == "up"]
    assert plans.together(up, 0.5) == up[0].saved[0.5]
    down = [row for row in table() if row.stage in ("down", "body")]
    alone = {row.group: row.saved[0.5] for row in down if row.free}
    assert max(alone.values()) < plans.together(down, 0.5) < sum(alone.values())
