"""Progress reaches one listener, deadlines bound parts of the time, and one line shows it all."""

import io
import sys
import types

import pytest

from gfx.errors import InputError
from gfx.progress import (
    LiveLine,
    ProgressEvent,
    current_deadline,
    each,
    listening,
    live_line,
    out_of_time,
    part_of_time,
    reporting,
    stage,
    step,
    stopped,
    time_limit,
)


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_without_a_listener_reports_do_nothing():
    stage("alone")
    with step("counting", 3) as counted:
        counted.advance()
    assert list(each([1, 2], "adding")) == [1, 2]


def test_steps_within_steps_say_what_they_are_part_of():
    told, clock = [], Clock()
    with listening(told.append, clock), step("plans", 3) as plans:
        plans.advance()
        for _ in each("ab", "convolutions"):
            clock.now += 2
        stage("checking")
        plans.advance()
    assert [str(event) for event in told] == [
        "plans: 0 of 3",
        "plans: 1 of 3",
        "plans 2/3 · convolutions: 0 of 2",
        "plans 2/3 · convolutions: 1 of 2, about 2 s left",
        "plans 2/3 · convolutions: 2 of 2",
        "plans 2/3 · checking",
        "plans: 2 of 3, about 2 s left",
    ]


def test_what_is_left_is_not_guessed_before_anything_is_done():
    assert ProgressEvent("a", 0, 5, seconds=3).left is None
    assert ProgressEvent("a", 0, 0, seconds=3).left is None
    assert ProgressEvent("a", 1, 5, seconds=300).left == 1200
    assert str(ProgressEvent("a", 1, 5, seconds=300)) == "a: 1 of 5, about 20 min left"


def test_a_step_that_fails_is_no_longer_under_way():
    told = []
    with listening(told.append):
        with pytest.raises(ZeroDivisionError), step("outer", 2):
            1 / 0  # noqa: B018 - it raises
        stage("after")
    assert told[-1].within == ()


def test_an_inner_listener_hears_for_the_outer_one_and_false_adds_none():
    outer, inner = [], []
    with listening(outer.append):
        with reporting(inner.append):
            stage("inside")
        with reporting(False):
            stage("outside")
    assert [[event.what for event in told] for told in (outer, inner)] == [["outside"], ["inside"]]


def test_a_function_of_three_parameters_hears_what_is_counted():
    told = []
    with reporting(lambda done, total, name: told.append((done, total, name))):
        stage("not counted")
        list(each("ab", "adding"))
    assert told == [(1, 2, "adding"), (2, 2, "adding")]


@pytest.mark.parametrize("progress", ["yes", 1, 0.5])
def test_progress_that_is_no_function_is_refused(progress):
    said = r"progress is .*; give True, or a function"
    with pytest.raises(InputError, match=said), reporting(progress):
        pass


# deadlines


def test_without_a_limit_nothing_is_out_of_time():
    assert not out_of_time()
    stopped("nothing")
    with time_limit(None) as deadline, part_of_time(0.0):
        assert deadline is None
        assert not out_of_time()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, "60"])
def test_a_time_that_is_no_positive_number_is_refused(seconds):
    said = r"time=.* is no number of seconds; give one above 0"
    with pytest.raises(InputError, match=said), time_limit(seconds):
        pass


def test_a_part_of_the_time_is_of_what_is_left():
    clock = Clock()
    with time_limit(100, clock):
        clock.now = 20
        with part_of_time(0.5):  # until 60
            clock.now = 50
            with part_of_time(0.5):  # until 55
                assert not out_of_time()
                clock.now = 55
                assert out_of_time()
            assert not out_of_time()
            clock.now = 60
            assert out_of_time()
        assert not out_of_time()
        clock.now = 100
        assert out_of_time()
        assert current_deadline().passed


def test_what_was_cut_short_is_said_once():
    with time_limit(60) as deadline:
        assert deadline.notes == ()
        for _ in range(2):
            stopped("2 of 6 plans were tried")
        note = "stopped after 60 s, with the best so far: 2 of 6 plans were tried"
        assert deadline.notes == (note,)
    assert current_deadline() is None


# the line


def test_long_work_is_told_in_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(live_line, "_PATIENCE", 0.01)
    with LiveLine() as line, listening(line):
        stage("opening")
        line._show._ended.wait(0.2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "opening …\n")


def test_quick_work_is_not_told(capsys):
    with reporting(True):
        stage("counting")
    assert capsys.readouterr() == ("", "")


def test_a_quiet_line_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(live_line, "_PATIENCE", 0.0)
    with LiveLine(quiet=True) as line, listening(line):
        stage("counting")
        assert line._show is None
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_that_fits_one_line(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    for name, value in {"COLUMNS": "60", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with LiveLine() as line, listening(line), step("a [path] of convolutions " * 9, 4) as counted:
        counted.advance()
        line._show._live.refresh()
    assert "━━━━━━" in stream.getvalue()
    assert "[path]" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1  # at the end


def test_a_notebook_rewrites_one_output(monkeypatch):
    shown = []
    handle = types.SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))
    display = types.ModuleType("IPython.display")
    display.display = lambda data, raw, display_id: handle
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(live_line, "_FRAMES", 0.0)
    line = LiveLine()
    line._console.is_jupyter = True
    with line, listening(line):
        stage("tracing")
    assert shown == ["tracing", ""]


def test_of_two_limits_the_one_that_is_over_first_counts():
    clock = Clock()
    with time_limit(5, clock), time_limit(1000, clock):
        clock.now = 4
        assert not out_of_time()
        clock.now = 5
        assert out_of_time()
