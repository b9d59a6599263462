"""The page of a run: what it shows is what the folder holds, whatever is in the folder."""

import json
import re
from html import unescape

import numpy as np
import pytest
import torch

import gfx
from gfx.reports.run import run_page as run_page_module
from gfx.reports.run import sample_pictures
from gfx.reports.run.curves import charts_of
from gfx.reports.run.resume_command import command_of
from gfx.reports.run.run_facts import run_facts
from gfx.reports.run.run_page import write_run_page
from gfx.train.runs.sample_grids import layout_of
from support.browsing import CONTRAST, chromium, needs_browser, opened
from support.html_pages import parsed
from support.run_folders import SAID, write_picture, write_run
from support.sensitivity_tables import HOSTILE

FILES = ("recipe.yaml", "called.json", "plan.json", "log.jsonl", "01-distill.json", "samples")


def shown(folder):
    """The page of a folder; it must have been written without a fault of gfx."""
    assert write_run_page(folder) == ""
    text = (folder / "report.html").read_text("utf-8")
    parsed(text)
    return text


def words(text):
    return " ".join(" ".join(parsed(text).text).split())


def charts(folder):
    return {chart.title: chart for chart in charts_of(run_facts(folder))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "unfinished", ended=0)


def add_rows(folder, *rows):
    with (folder / "log.jsonl").open("a") as file:
        for row in rows:
            file.write(row if isinstance(row, str) else f"{json.dumps(row)}\n")


# what it says


def test_the_headline_has_system_model_costs_and_scores(whole):
    text = words(shown(whole))
    for part in (
        "two-stages: ResnetGenerator",
        "finished: 2 stages",
        "MACs 50.00 M → 20.00 M 2.50\N{MULTIPLICATION SIGN} less",
        "parameters 40.00 K → 10.00 K 4.00\N{MULTIPLICATION SIGN} less",
        "held out: l1 0.05 as given: 0.04",
        "held out: psnr 26 as given: 27.5",
    ):
        assert part in text, part


def test_the_table_has_a_row_for_the_model_as_given_and_for_each_stage(whole):
    table = re.search(r"<table.*?</table>", shown(whole), re.DOTALL)[0]
    rows = [words(row) for row in re.findall(r"<tr.*?</tr>", table)[1:]]
    assert rows == [
        "as given 50.00 M 100.0% 40,000 0.04 27.5",
        "distill 20.00 M 40.0% 10,000 900 0.1 25",
        "fine 20.00 M 40.0% 10,000 600 0.05 26",
    ]
    assert "estimated: 3 min of training, 512 MB of memory" in words(shown(whole))


def test_a_finished_run_says_where_the_net_is_and_what_was_assumed(whole):
    text = words(shown(whole))
    assert f"gfx report {whole.absolute()}/02-fine.gfx" in text
    for said in SAID:
        assert text.count(said) == 1


def test_an_unfinished_run_says_how_far_it_is_and_how_to_go_on(unfinished):
    text = words(shown(unfinished))
    assert "unfinished: stage 1 of 2 (distill), step 300 of 900" in text
    assert "300 of 900" in text
    assert "0 of 600" in text
    assert command_of(run_facts(unfinished)) in text
    assert command_of(run_facts(unfinished)) == (
        f"gfx compress two-stages MODEL --data '/data/my shoes' -o FILE "
        f"--run {unfinished.absolute()} --task paired --range 0..1 --no-flip --metric l1 "
        "--metric psnr --seed 7"
    )
    assert SAID[0] in text  # it is known before a stage has ended


def test_the_second_stage_runs_when_the_first_has_ended(tmp_path):
    text = words(shown(write_run(tmp_path / "run", ended=1, taken=33)))
    assert "unfinished: stage 2 of 2 (fine), step 33 of 600" in text


def test_what_the_command_cannot_know_is_in_capitals(tmp_path):
    folder = write_run(tmp_path / "run", ended=0)
    (folder / "called.json").unlink()
    text = (folder / "recipe.yaml").read_text()
    text = text.replace("discriminator: null", "discriminator: Critic 01").replace(
        "size: null", "size: [32, 64]"
    )
    (folder / "recipe.yaml").write_text(text)
    command = command_of(run_facts(folder))
    assert command.startswith("gfx compress RECIPE MODEL --data DIR -o FILE --run ")
    assert "--discriminator DISCRIMINATOR" in command
    assert "--size VALUE" in command


def test_nothing_is_loaded_from_anywhere(whole):
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", shown(whole))
    for reference in ("http:", "https:", "//", "@import", "javascript:"):
        assert reference not in text.replace("data:,", ""), reference
    assert set(re.findall(r"url\([^)]*\)", text)) == {"url()"}  # of the data that was taken out


def test_a_page_is_the_same_twice(whole):
    assert shown(whole) == shown(whole)


# whatever is in the folder


@pytest.mark.parametrize("name", FILES)
def test_a_page_needs_no_single_file(tmp_path, name):
    folder = write_run(tmp_path / "run", ended=1)
    path = folder / name
    if path.is_dir():
        for each in path.iterdir():
            each.unlink()
        path.rmdir()
    else:
        path.unlink()
    text = words(shown(folder))
    if name == "recipe.yaml":
        assert "recipe.yaml cannot be read (FileNotFoundError" in text
    if name == "plan.json":
        assert "stage 2 of 2 (fine), step 300" in text
    if name == "log.jsonl":
        assert "Nothing is logged yet." in text
    if name == "samples":
        assert "There are no pictures" in text
    if name == "01-distill.json":
        assert "stage 1 of 2 (distill), step 900 of 900" in text


def test_an_empty_folder_has_a_page(tmp_path):
    assert "before its first stage" in words(shown(tmp_path))


@pytest.mark.parametrize("name", [*FILES[:5], "samples/01-distill-000000900.png"])
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe\0", b"{", b"[]", b"5", b'"text"', b"null", b"[" * 100_000,
        b'{"stages": 5, "said": 5, "scores": 5, "run": 5, "about": [5], "data": 5, "step": {}}',
        b'{"stages": [], "memory": 1}', b'{"scores": {"l1": 1e999, "psnr": "x"}, "steps": "y"}',
        b'{"stage": 1, "step": 1' + b"0" * 500 + b"}\n",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
    ],
)  # fmt: skip
def test_damaged_files_are_no_end_of_the_page(tmp_path, name, content):
    folder = write_run(tmp_path / "run", pictures=False)
    write_picture(folder, 1, "distill", 900)
    (folder / name).write_bytes(content)
    assert len(shown(folder)) > 5_000


def test_a_damaged_picture_is_named(tmp_path):
    folder = write_run(tmp_path / "run", pictures=False)
    write_picture(folder, 1, "distill", 900)
    (folder / "samples" / "01-distill-000000900.png").write_bytes(b"no picture")
    assert "01-distill-000000900.png cannot be shown (InputError: this is no PNG" in words(
        shown(folder)
    )


def test_everything_is_escaped(tmp_path):
    bad = f'"></style><b>{HOSTILE}</b>'
    folder = write_run(tmp_path / "run", ended=0, about=bad, stages=[bad, HOSTILE])
    add_rows(folder, {"stage": 1, "step": 7, "name": bad, bad: 1.0, f"held.{bad}": 2.0})
    (folder / "called.json").write_text(
        json.dumps({"system": bad, "preset": bad, "data": [bad], "said": [bad]})
    )
    text = shown(folder)
    tags = [tag for tag, _ in parsed(text).tags]
    assert "b" not in tags
    assert tags.count("script") == 1  # that of the page
    assert HOSTILE in words(text)


def test_columns_of_a_picture_are_escaped(tmp_path, monkeypatch):
    from gfx.train.runs.sample_grids import grid, write_grid

    bad = f'"><b>{HOSTILE}</b>'
    folder = write_run(tmp_path / "run", pictures=False)
    path = folder / "samples" / "01-distill-000000001.png"
    write_grid(path, grid({bad: torch.zeros(1, 3, 4, 4), "student": torch.ones(1, 3, 4, 4)}))
    text = shown(folder)
    assert "b" not in {tag for tag, _ in parsed(text).tags}
    assert 'type="range"' not in text  # without a teacher there is nothing to wipe to


def test_a_line_that_is_half_written_is_left_out_in_silence_and_others_are_told(tmp_path):
    folder = write_run(tmp_path / "run", ended=0)
    before = run_facts(folder)
    add_rows(folder, '{"stage": 1, "step": 303, "ga')
    assert run_facts(folder).rows == before.rows
    assert run_facts(folder).faults == ()
    add_rows(folder, "n\n", "no row\n", {"stage": 1, "step": 306, "name": "distill", "gan": 1.0})
    assert "log.jsonl: 2 lines are no rows of a log, and are left out" in words(shown(folder))
    assert len(run_facts(folder).rows) == len(before.rows) + 1


def test_what_is_no_finite_number_is_a_gap_in_the_line(tmp_path):
    folder = write_run(tmp_path / "run", ended=0, taken=0)
    values = [1.0, 2.0, float("nan"), 3.0, None, 4.0, float("inf"), 10**400, 1e300, "x", 5.0, 6.0]
    for step, value in enumerate(values, 1):
        add_rows(folder, {"stage": 1, "name": "distill", "step": step, "l1": value})
    (curve,) = charts(folder)["l1"].curves
    assert [[value for _, value in piece] for piece in curve.pieces] == [
        [1, 2], [3], [4], [5, 6],
    ]  # fmt: skip
    assert charts(folder)["l1"].gaps == 5
    assert "5 values are not finite, and are left out" in words(shown(folder))
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", shown(folder))).lower()


def test_a_term_without_a_finite_value_has_a_chart_too(tmp_path):
    folder = write_run(tmp_path / "run", ended=0, taken=0)
    add_rows(folder, {"stage": 1, "name": "distill", "step": 1, "l1": float("nan")})
    assert "no finite value" in words(shown(folder))


# curves


def test_terms_of_student_and_teacher_share_a_chart_and_scores_come_first(whole):
    found = charts(whole)
    assert list(found) == ["held out: l1", "held out: psnr", "gan", "recon"]
    assert [curve.name for curve in found["gan"].curves] == ["student", "teacher given"]
    assert [curve.name for curve in found["held out: l1"].curves] == ["held out", "kept"]
    legend = words("".join(re.findall(r'<p class="legend">.*?</p>', shown(whole))))
    for part in ("student, as logged mean", "teacher given, as logged", "held out kept"):
        assert part in legend, part


def test_the_steps_of_stages_follow_each_other_and_boundaries_are_marked(whole):
    chart = charts(whole)["recon"]
    assert chart.stages == ((0.0, "distill"), (900.0, "fine"))
    assert chart.curves[0].pieces[-1][-1][0] == 1500
    assert [held[0] for held in charts(whole)["held out: l1"].curves[1].pieces] == [
        (900.0, 0.1), (1500.0, 0.05),
    ]  # fmt: skip
    svg = re.findall(r"<svg.*?</svg>", shown(whole))[-1]
    assert svg.count('class="begin"') == 2
    assert ">fine<title>" in svg


def test_a_scale_is_logarithmic_where_the_range_asks_for_it(whole):
    assert [title for title, chart in charts(whole).items() if chart.log] == ["recon"]
    svg = re.findall(r"<svg.*?</svg>", shown(whole))[-1]
    for power in ("0.5", "1", "5"):
        assert f'text-anchor="end">{power}</text>' in svg


def test_the_learning_rate_is_drawn_where_it_changes(tmp_path, whole):
    assert "learning rate, of the first" not in charts(whole)
    folder = write_run(tmp_path / "run", ended=0)
    add_rows(folder, {"stage": 1, "name": "distill", "step": 306, "rate": 0.5})
    assert list(charts(folder))[-1] == "learning rate, of the first"


def test_many_points_are_thinned_without_losing_a_peak_and_smoothed(tmp_path):
    folder = write_run(tmp_path / "run", ended=0, taken=0, pictures=False)
    lines = []
    for step in range(1, 20_001):
        value = 100.0 if step == 7_777 else 2.0 + (step % 2)
        lines.append({"stage": 1, "name": "distill", "step": step, "l1": value})
    add_rows(folder, *lines)
    (curve,) = charts(folder)["l1"].curves
    points = [point for piece in curve.pieces for point in piece]
    assert len(points) <= 420
    assert (7777.0, 100.0) in points
    means = [value for piece in curve.means for _, value in piece]
    assert 100 <= len(means) <= 420
    assert max(abs(value - 2.5) for value in means) < 0.15  # the peak is one of a thousand
    assert len(shown(folder)) < 60_000


def test_a_run_of_many_terms_and_stages_has_a_page_of_bounded_size(tmp_path):
    names = [f"stage{n}" for n in range(30)]
    folder = write_run(tmp_path / "run", ended=0, taken=0, stages=names, pictures=False)
    for number, name in enumerate(names, 1):
        for step in range(1, 41):
            terms = {f"term{n}": float(step * n) for n in range(60)}
            add_rows(folder, {"stage": number, "name": name, "step": step, **terms})
    text = shown(folder)
    assert "20 more are in log.jsonl and metrics.csv." in words(text)
    assert len(text) < 1_500_000


# pictures


def test_a_picture_knows_its_columns_and_the_size_of_an_image(whole):
    data = (whole / "samples" / "01-distill-000000900.png").read_bytes()
    layout = layout_of(data)
    assert (layout.height, layout.width) == (8, 8)
    assert layout.columns == (
        "input", "teacher", "student", "difference \N{MULTIPLICATION SIGN}10", "truth",
    )  # fmt: skip


@pytest.mark.parametrize("truth", [True, False])
def test_each_column_is_a_part_of_the_newest_picture(tmp_path, truth):
    folder = write_run(tmp_path / "run", pictures=False)
    write_picture(folder, 2, "fine", 600, truth=truth)
    text = shown(folder)
    parts = re.findall(r'aria-label="(\w+)[^"]* of example (\d)" style="background-position:(.*?)"',
                       text)  # fmt: skip
    columns = 5 if truth else 4
    assert len(parts) == 2 * columns
    order = ["input", "teacher", "student", "difference", "truth"][:columns]
    for name, example, place in parts:
        x, y = (float(each.rstrip("%")) for each in place.split())
        assert x == pytest.approx(100 * order.index(name) / (columns - 1), abs=1e-3)
        assert y == 100 * (int(example) - 1)
    assert f"background-size:{100 * columns}% 200%" in text
    assert text.count('type="range"') == 2
    assert "fine, example 2: how much of the teacher is shown" in text


def test_earlier_pictures_are_folded_and_few(tmp_path):
    folder = write_run(tmp_path / "run", pictures=False)
    for step in range(0, 2000, 100):
        write_picture(folder, 1, "distill", step)
    text = shown(folder)
    assert "earlier: 6 of 19" in words(text)
    folded = re.search(r"<details>.*?</details>", text, re.DOTALL)[0]
    steps = re.findall(r'alt="step ([\d,]+):', folded)
    assert (steps[0], steps[-1]) == ("1,800", "0")
    assert len(steps) == 6


def test_what_does_not_fit_into_the_page_is_left_out_and_told(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", pictures=False)
    for number, name in ((1, "distill"), (2, "fine")):
        for step in (100, 200, 300):
            write_picture(folder, number, name, step)
    one = (folder / "samples" / "01-distill-000000100.png").stat().st_size
    monkeypatch.setattr(sample_pictures, "_MOST_BYTES", int(3.5 * one))
    text = shown(folder)
    assert "3 pictures are left out, to keep the page below" in words(text)
    assert "fine, after step 300" in words(text)  # the newest of each stage are the first to stay
    assert "distill, after step 300" in words(text)


def test_a_picture_of_others_is_shown_whole(tmp_path):
    from gfx.pipeline.record.png import encode

    folder = write_run(tmp_path / "run", pictures=False)
    path = folder / "samples" / "01-distill-000000100.png"
    path.parent.mkdir()
    path.write_bytes(encode(np.zeros((8, 24, 3), np.uint8), {"gfx grid": '{"columns": 5}'}))
    text = shown(folder)
    assert 'alt="step 100"' in text
    assert 'type="range"' not in text


# a page never stops a run


def test_a_page_that_cannot_be_drawn_is_a_sentence(whole, monkeypatch):
    def fails(facts):
        raise RecursionError("too deep <b>")

    monkeypatch.setattr(run_page_module, "run_page", fails)
    said = write_run_page(whole)
    assert said == f"report.html of {whole} could not be drawn (RecursionError: too deep <b>)"
    text = (whole / "report.html").read_text()
    assert "could not be drawn" in words(text)
    assert "<b>" not in text


def test_a_page_that_cannot_be_written_is_a_sentence_and_leaves_the_older_one(whole, monkeypatch):
    before = shown(whole)

    def full(files):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_page_module, "write_files", full)
    assert "could not be written (OSError: [Errno 28]" in write_run_page(whole)
    assert (whole / "report.html").read_text("utf-8") == before
    assert "could not be written" in write_run_page(whole / "nowhere")


SYSTEM = {
    "about": "a trial of two stages",
    "stages": {
        "slim": {
            "do": [{"channel_prune": {"ratio": 0.5}}],
            "fit": {"discriminator": "none", "teacher": "given", "losses": {"mimic": 1},
                    "steps": 4, "batch": 2},
        },
        "fine": {"fit": {"discriminator": "none", "teacher": "given", "losses": {"mimic": 1},
                         "steps": 2, "batch": 2}},
    },
}  # fmt: skip


def pairs():
    torch.manual_seed(0)
    return torch.rand(6, 3, 32, 32), torch.rand(6, 3, 32, 32)


def compressed(folder, **options):
    model = gfx.zoo.build("resnet_9blocks", ngf=4, image_size=32)
    return gfx.compress(SYSTEM, model, data=pairs(), run=folder, evaluate=2, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    return folder, compressed(folder)


def test_a_run_goes_on_without_its_page_and_says_so(tmp_path, monkeypatch):
    def fails(facts):
        raise ValueError("no page today")

    monkeypatch.setattr(run_page_module, "run_page", fails)
    done = compressed(tmp_path / "run")
    assert done.finished
    told = [said for said in done.assumed if "no page today" in said]
    assert len(told) == 1


def test_a_run_writes_its_page(trained):
    folder, done = trained
    assert done.assumed == run_facts(folder).said
    text = words((folder / "report.html").read_text("utf-8"))
    assert "finished: 2 stages" in text
    before, _, last = done.plan.stages
    assert f"{gfx.costs.human(before.macs)} → {gfx.costs.human(last.macs)}" in text
    for metric, value in done.scores["fine"].items():
        assert f"held out: {metric} {value:.4g}" in text
    assert "slim, after step 4" in text
    assert "a trial of two stages" in text


def test_a_run_that_was_stopped_has_a_page(tmp_path):
    done = compressed(tmp_path / "run", time=1e-9)
    assert not done.finished
    text = words((tmp_path / "run" / "report.html").read_text("utf-8"))
    assert "unfinished: stage 1 of 2 (slim), step 1 of 4" in text


# in a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser, trained, tmp_path):
    text = (trained[0] / "report.html").read_text("utf-8")
    with opened(browser, tmp_path / "report.html", text) as tab:
        yield tab


def pixels(tab, locator):
    """What is seen of an element, as an array."""
    import io

    from PIL import Image

    return np.array(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


@needs_browser
def test_the_slider_wipes_between_teacher_and_student(tab):
    wipe = tab.locator(".wipe").first
    slider = wipe.locator("input")
    part = wipe.locator(".teacher .part")
    at_first = pixels(tab, part)
    slider.focus()
    tab.keyboard.press("ArrowRight")
    assert slider.input_value() == "51"
    assert slider.get_attribute("aria-valuetext") == "51 % teacher"
    tab.keyboard.press("End")
    teacher = pixels(tab, part)
    tab.keyboard.press("Home")
    student = pixels(tab, part)
    half = at_first.shape[1] // 2
    edge = 30  # pixels around the handle
    assert abs(teacher[:, edge:-edge] - student[:, edge:-edge]).mean() > 5
    # left of the handle is the teacher, right of it the student
    assert abs(at_first - teacher)[:, edge : half - edge].mean() < 2
    assert abs(at_first - student)[:, half + edge : -edge].mean() < 2


@needs_browser
def test_the_slider_follows_the_mouse(tab):
    wipe = tab.locator(".wipe").first
    slider = wipe.locator("input")
    part = wipe.locator(".teacher .part")
    part.scroll_into_view_if_needed()
    before = pixels(tab, part)
    box = part.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] / 2, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 4, middle, steps=4)
    tab.mouse.up()
    assert abs(int(slider.input_value()) - 25) <= 1
    assert abs(pixels(tab, part) - before).mean() > 1
    tab.mouse.click(box["x"] + box["width"] * 0.8, middle)  # a click jumps there
    assert abs(int(slider.input_value()) - 80) <= 1


@needs_browser
def test_a_part_shows_its_own_column_and_row(tab, trained):
    from PIL import Image

    newest = trained[0] / "samples" / "02-fine-000000002.png"
    layout = layout_of(newest.read_bytes())
    grid = np.array(Image.open(newest)).astype(int)
    tab.locator(".wipe input").first.press("End")  # the teacher alone
    for row, column in ((0, 0), (0, 1), (0, 3), (0, 4)):
        name = layout.columns[column]
        part = tab.get_by_role("img", name=f"{name} of example {row + 1}").first
        seen = pixels(tab, part)
        top, left = row * layout.height, column * layout.width
        cell = grid[top : top + layout.height, left : left + layout.width]
        ys = (np.arange(layout.height) + 0.5) * seen.shape[0] / layout.height
        xs = (np.arange(layout.width) + 0.5) * seen.shape[1] / layout.width
        inner = slice(4, -4)  # without rounded corners and the handle
        found = seen[ys.astype(int)][:, xs.astype(int)]
        assert abs(found - cell)[inner, inner].mean() < 3, name


@needs_browser
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_no_window_scrolls_sideways(browser, tab, unfinished, tmp_path, width):
    tab.set_viewport_size({"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for details in tab.locator("details").all():
        details.evaluate("each => { each.open = true; }")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    with opened(browser, tmp_path / "other.html", shown(unfinished)) as other:
        other.set_viewport_size({"width": width, "height": 900})
        assert other.evaluate("document.documentElement.scrollWidth") <= width


@needs_browser
def test_without_a_script_teacher_and_student_are_side_by_side(browser, trained):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((trained[0] / "report.html").as_uri())
    wipe = page.locator(".wipe").first
    assert not wipe.locator("input").is_visible()
    left = wipe.locator(".teacher .part").bounding_box()
    right = wipe.locator(".student .part").bounding_box()
    assert left["y"] == right["y"]
    assert right["x"] >= left["x"] + left["width"]
    context.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(tab, scheme):
    tab.emulate_media(color_scheme=scheme)
    for selector in ("h1", "dt", ".times", "figcaption", ".state", "pre", "caption", ".legend"):
        assert tab.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


def test_the_labels_of_charts_are_read_aloud(whole):
    labels = [unescape(label) for label in re.findall(r'<svg[^>]*aria-label="(.*?)"', shown(whole))]
    assert len(labels) == 4
    assert labels[0].startswith("held out: l1: held out 0.4724 → ")
