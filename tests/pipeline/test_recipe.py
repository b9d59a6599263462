"""Recipes: what they accept, what they expand to, and what each mistake is answered with."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

import gfx
from gfx.contract import Context, Outcome, Pass
from gfx.io.plain_data import coerce, describe, plain
from gfx.ir.program import Program
from gfx.pipeline.recipe import InputSpec, Recipe, shipped
from gfx.pipeline.registry import InstalledPasses


@dataclass(frozen=True)
class Mixed(Pass):
    name: ClassVar[str] = "mixed"

    share: float = 0.5
    count: int = 1
    loud: bool = False
    mode: Literal["l1", "l2"] = "l1"
    keep: tuple[str, ...] = ()
    widths: dict[str, int] | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise gfx.RecipeError(f"mixed: share is {self.share}; it must be in [0, 1)")

    def apply(self, program: Program, context: Context) -> Outcome:
        return Outcome()


@dataclass(frozen=True)
class Strict(Pass):
    size: int
    name: ClassVar[str] = "strict"

    def apply(self, program: Program, context: Context) -> Outcome:
        return Outcome()


@pytest.fixture(autouse=True)
def known_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = InstalledPasses({"mixed": Mixed, "strict": Strict}, {}, ())
    monkeypatch.setattr("gfx.pipeline.registry.discover", lambda: found)


def load(**given: Any) -> Mixed:
    (pass_,) = Recipe.load({"passes": [{"mixed": given}]}).passes
    assert isinstance(pass_, Mixed)
    return pass_


def test_a_bare_name_is_the_pass_with_its_defaults() -> None:
    assert Recipe.load({"passes": ["mixed", {"mixed": None}]}).passes == (Mixed(), Mixed())


def test_fields_are_read_by_their_annotations() -> None:
    assert load(share=0, keep="to_rgb", widths={"a.*": 8}) == Mixed(
        0.0, keep=("to_rgb",), widths={"a.*": 8}
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": "big"}, r"passes\[0\] mixed: share: expected a number, got 'big'"),
        ({"share": True}, "share: expected a number, got True"),
        ({"count": 1.5}, "count: expected an integer, got 1.5"),
        ({"loud": 1}, "loud: expected true or false, got 1"),
        ({"mode": "l3"}, "mode: expected one of 'l1', 'l2', got 'l3'"),
        ({"keep": [1]}, "keep: expected text, got 1"),
        ({"keep": 3}, "keep: expected a list of text, got 3"),
        ({"widths": {"a": "b"}}, "widths: expected an integer, got 'b'"),
        ({"label": 3}, "label: expected text, got 3"),
        ({"share": 1.5}, r"passes\[0\] mixed: share is 1.5; it must be in \[0, 1\)"),
        ({"shrae": 1}, "unknown field 'shrae'; did you mean 'share'?"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(given: dict[str, Any], message: str) -> None:
    with pytest.raises(gfx.RecipeError, match=message):
        load(**given)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"passes": ["mxied"]}, r"passes\[0\]: unknown pass 'mxied'; did you mean 'mixed'?"),
        ({"pases": []}, "unknown key 'pases'; did you mean 'passes'?"),
        ({}, "has no `passes`"),
        ({"passes": "mixed"}, "passes is a list of passes, not str 'mixed'"),
        ({"passes": [3]}, r"passes\[0\]: a pass is a name or"),
        ({"passes": [{"mixed": 3}]}, "its fields are a mapping, not 3"),
        ({"passes": [{"mixed": None, "share": 1}]}, "one pass is expected.*indent its fields"),
        ({"passes": ["strict"]}, "strict: field 'size' has no default and is not given"),
        ({"passes": [], "recipe": 2}, "recipe version 2 is unknown; this gfx reads 1"),
        ({"passes": [], "seed": -1}, "seed is -1"),
        ({"passes": [], "seed": "a"}, "seed: expected an integer, got 'a'"),
        ({"passes": [], "input": []}, "input is a shape such as"),
        ({"passes": [], "input": [1, 0]}, r"shape \[1, 0\] has a size below 1"),
        ({"passes": [], "input": [["a"]]}, "input: .*expected an integer, got 'a'"),
        ({"passes": [], "input": {"shape": [1], "dtype": "flaot"}}, "'flaot' is no dtype"),
        ({"passes": [], "budget": {"mac": 0.5}}, "recipe: budget: unknown measure 'mac'"),
        ({"passes": [], "budget": 0.5}, "budget: expected a mapping of text"),
        (3, "not int"),
    ],
)
def test_a_wrong_recipe_is_an_error_that_says_what_to_write(recipe: Any, message: str) -> None:
    with pytest.raises(gfx.RecipeError, match=message):
        Recipe.load(recipe)


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        ([1, 3, 8, 8], [InputSpec((1, 3, 8, 8))]),
        ([[1, 3, 8, 8], [1, 5]], [InputSpec((1, 3, 8, 8)), InputSpec((1, 5))]),
        ({"shape": [1], "dtype": "int64"}, [InputSpec((1,), "int64")]),
        ([{"shape": [1], "dtype": "int64"}, [2]], [InputSpec((1,), "int64"), InputSpec((2,))]),
    ],
)
def test_input_has_three_spellings(value: Any, specs: list[InputSpec]) -> None:
    assert Recipe.load({"input": value, "passes": []}).input == tuple(specs)


def test_an_input_takes_the_models_dtype_unless_it_has_its_own() -> None:
    cpu = torch.device("cpu")
    assert InputSpec((2,)).tensor(torch.float64, cpu).dtype == torch.float64
    assert InputSpec((2,), "int64").tensor(torch.float64, cpu).dtype == torch.int64


def test_yaml_that_does_not_parse_is_shown_with_a_caret(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("passes:\n  - mixed: {share: 0.5\n")
    with pytest.raises(gfx.RecipeError, match=r"bad.yaml, line 3: does not parse as YAML"):
        Recipe.load(file)
    file.write_text("about: half: more\npasses: []\n")
    with pytest.raises(gfx.RecipeError) as caught:
        Recipe.load(str(file))
    line, caret = str(caught.value).splitlines()[1:]
    assert line == "  about: half: more"
    assert line[caret.index("^")] == ":"


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("passes: []\nseed: 1\nseed: 2\n")
    with pytest.raises(gfx.RecipeError, match=r"line 3: .*'seed' is given twice"):
        Recipe.load(file)


def test_a_number_in_exponent_form_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("passes: [{mixed: {share: 1e-3}}]")
    assert Recipe.load(file).passes == (Mixed(share=1e-3),)


@pytest.mark.parametrize("text", ["", "- mixed", "mixed"])
def test_a_file_that_holds_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(gfx.RecipeError, match=r"odd.yaml: a recipe is a mapping with"):
        Recipe.load(file)


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(gfx.RecipeError, match="cannot be read as text"):
        Recipe.load(file)


def test_a_recipe_nested_too_deeply_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text("passes: " + "[" * 5000)
    with pytest.raises(gfx.RecipeError, match="nested too deeply"):
        Recipe.load(file)


def test_a_missing_file_and_an_unknown_name_are_told_apart() -> None:
    with pytest.raises(gfx.RecipeError, match=r"recipe file no/such.yaml does not exist"):
        Recipe.load("no/such.yaml")
    with pytest.raises(gfx.RecipeError, match=r"unknown recipe 'hlaf'; did you mean 'half'\?"):
        Recipe.load("hlaf")


def test_a_recipe_and_a_pass_pass_through() -> None:
    recipe = Recipe.load({"passes": [Mixed(share=0.25)]})
    assert Recipe.load(recipe) is recipe
    assert recipe.passes == (Mixed(share=0.25),)


texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=8)
mixed = st.builds(
    Mixed,
    share=st.floats(0, 1, exclude_max=True),
    count=st.integers(),
    loud=st.booleans(),
    mode=st.sampled_from(("l1", "l2")),
    keep=st.lists(texts, max_size=2).map(tuple),
    widths=st.none() | st.dictionaries(texts, st.integers(), max_size=2),
    label=st.none() | texts,
)
shapes = st.lists(st.integers(1, 2**10), max_size=3).map(tuple)
inputs = st.builds(InputSpec, shapes, st.sampled_from((None, "int64", "float16")))
recipes = st.builds(
    Recipe,
    about=texts,
    input=st.none() | st.lists(inputs, min_size=1, max_size=2).map(tuple),
    budget=st.none() | st.fixed_dictionaries({"macs": st.floats(0.1, 1)}),
    seed=st.none() | st.integers(0, 2**63 - 1),
    passes=st.lists(mixed, max_size=2).map(tuple),
)


@hypothesis.given(recipes)
@hypothesis.example(Recipe(about="1e-3", passes=(Mixed(label="null", keep=("2:30", "~", "=")),)))
def test_a_recipe_round_trips_through_its_spec_and_its_yaml(recipe: Recipe) -> None:
    from gfx.io.yaml_text import parse

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gfx.pipeline.registry.discover", lambda: InstalledPasses({"mixed": Mixed}, {}, ())
        )
        assert Recipe.load(recipe.spec()) == recipe
        assert Recipe.load(parse(recipe.to_yaml(), "yaml")) == recipe


def test_the_spec_writes_every_default_out() -> None:
    spec = Recipe.load({"passes": ["mixed"]}).spec()
    assert list(spec["passes"][0]["mixed"]) == [f.name for f in fields(Mixed)]
    assert list(spec) == [f.name for f in fields(Recipe)]


def test_values_of_every_kind_survive_being_made_plain() -> None:
    assert coerce(plain((1, 2)), tuple[int, int]) == (1, 2)
    assert coerce(plain(Path("a")), Path) == Path("a")
    assert coerce(plain(InputSpec((1,))), InputSpec) == InputSpec((1,))
    assert plain({"b": {2, 1}, 3: torch.tensor(1.5)}) == {"b": [1, 2], "3": 1.5}
    assert plain(torch.float32) == "torch.float32"


def test_a_fixed_tuple_wants_its_length() -> None:
    with pytest.raises(TypeError, match=r"expected a list of an integer and text, got \[1\]"):
        coerce([1], tuple[int, str])
    assert describe(dict[str, int]) == "a mapping of text to an integer"


def test_an_integer_stays_one_where_numbers_are_allowed_too() -> None:
    assert type(coerce(3, float | int)) is int
    assert type(coerce(3, float)) is float


@pytest.mark.parametrize("name", ["half", "quarter"])
def test_the_shipped_recipes_are_listed(name: str) -> None:
    assert name in shipped()
