"""How passes are found, and what happens when a plugin misbehaves."""

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

import gfx
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.errors import did_you_mean
from gfx.ir.program import Program
from gfx.pipeline.registry import GROUP, discover, get, passes, reread

Install = Callable[[str, Any], EntryPoint]


def make_pass(name: str) -> type[Pass]:
    @dataclass(frozen=True)
    class Idle(Pass):
        keeps: ClassVar[Keeps] = Keeps.VALUES

        def apply(self, program: Program, context: Context) -> Outcome:
            return Outcome()

    Idle.name = name
    return Idle


@pytest.fixture
def plugin() -> Iterator[Install]:
    """Makes importable modules whose PASSES is what the test says."""
    names: list[str] = []

    def install(name: str, value: Any) -> EntryPoint:
        module = types.ModuleType(name)
        module.PASSES = value  # type: ignore[attr-defined]
        sys.modules[name] = module
        names.append(name)
        return EntryPoint(name, f"{name}:PASSES", GROUP)

    yield install
    for name in names:
        del sys.modules[name]


def test_builtin_passes_come_through_the_entry_point() -> None:
    assert {"fuse_batch_norm", "fold_parametrizations"} <= passes().keys()
    assert discover().origins["fuse_batch_norm"].startswith("gfx-compiler (passes.")


def test_every_builtin_pass_is_named_like_its_module_and_class() -> None:
    for name, kind in passes().items():
        if kind.__module__.startswith("passes."):
            assert kind.__module__ == f"passes.{name}"
            assert kind.__name__ == "".join(word.capitalize() for word in name.split("_"))


def test_two_classes_under_one_name_are_an_error_that_names_both(plugin: Install) -> None:
    points = [plugin("acme", (make_pass("idle"),)), plugin("bolt", (make_pass("idle"),))]
    with pytest.raises(
        gfx.RegistryError, match=r"pass 'idle' is offered twice: by .*Idle\) and by .*rename"
    ):
        discover(points)


def test_the_same_class_offered_twice_is_no_clash(plugin: Install) -> None:
    kind = make_pass("idle")
    assert discover([plugin("acme", (kind,)), plugin("bolt", (kind,))]).passes == {"idle": kind}


def test_a_broken_plugin_is_named_and_the_others_still_work(plugin: Install) -> None:
    points = [plugin("acme", (make_pass("idle"),)), EntryPoint("lost", "no_such_module:X", GROUP)]
    found = discover(points)
    assert list(found.passes) == ["idle"]
    assert found.broken[0].plugin == "an unnamed distribution (no_such_module:X)"
    assert found.broken[0].why == "ModuleNotFoundError: No module named 'no_such_module'"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (3, "must be a tuple of Pass classes, not int"),
        ((int,), "is not a subclass of gfx.Pass"),
        ((Pass,), "Pass lacks `apply` or a `name`"),
    ],
)
def test_an_entry_point_that_holds_no_passes_is_broken(
    plugin: Install, value: Any, why: str
) -> None:
    (broken,) = discover([plugin("acme", value)]).broken
    assert why in broken.why


def test_what_is_installed_is_read_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def points(group: str) -> list[EntryPoint]:
        read.append(group)
        return [EntryPoint("gfx", "passes:PASSES", GROUP)]

    monkeypatch.setattr("gfx.pipeline.registry.entry_points", points)
    first = discover()
    first.passes.clear()  # the caller's own
    assert "fuse_batch_norm" in discover().passes
    assert read == [GROUP]
    monkeypatch.syspath_prepend("/nowhere")  # what lies there may be installed
    discover()
    reread()
    discover()
    assert read == [GROUP] * 3


def test_a_clash_is_an_error_each_time(plugin: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [plugin("acme", (make_pass("idle"),)), plugin("bolt", (make_pass("idle"),))]
    monkeypatch.setattr("gfx.pipeline.registry.entry_points", lambda group: points)
    for _ in range(2):
        with pytest.raises(gfx.RegistryError, match="offered twice"):
            discover()


def test_an_unknown_pass_gets_the_nearest_name() -> None:
    with pytest.raises(
        gfx.RegistryError, match=r"unknown pass 'fuse_batchnorm'; did you mean 'fuse_batch_norm'\?$"
    ):
        get("fuse_batchnorm")


@pytest.mark.parametrize("name", ["mypass:Clip", "mypass.Clip"])
def test_a_class_of_a_file_is_no_name_and_the_error_says_how_a_pass_is_found(name: str) -> None:
    with pytest.raises(gfx.RegistryError, match=r"by the entry point gfx\.passes of an installed"):
        get(name)


def test_an_unknown_pass_lists_the_plugins_that_may_have_had_it(
    plugin: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("lost", "no_such_module:X", GROUP)
    monkeypatch.setattr("gfx.pipeline.registry.entry_points", lambda group: [point])
    with pytest.raises(
        gfx.RegistryError, match=r"plugin .*no_such_module:X\) could not be loaded: ModuleNotFound"
    ):
        get("idle")


def test_a_name_like_nothing_gets_the_whole_list() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("zzz", []) == "; none is known"
