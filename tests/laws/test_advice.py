"""What gfx advises exists, works for the case at hand, and is never what has just been run."""

import ast
import dataclasses
import importlib
import re
import typing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
import yaml
from torch import nn
from torch.nn.utils import parametrizations, prune

import gfx
import passes as builtin
from gfx.cli import app
from gfx.pipeline.recipe import build_pass, shipped
from gfx.pipeline.registry import passes
from gfx.train.systems import Critic, Fit, Guide, Partner, System, SystemStage
from gfx.train.systems.fit_fields import read_fit
from gfx.train.systems.read_system import _KEYS, _STAGE_KEYS
from gfx.train.terms import terms
from support.advice import RUN, Call, X, followed, not_followed


def net(first=None, norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()
    if first is not None:
        model[0] = first(model[0])
        model[3] = first(model[3])
    return model


def reads_the_input(layer):
    weight = layer.weight
    del layer._parameters["weight"]
    layer.weight_orig = nn.Parameter(weight.data)

    def demodulate(module, inputs):
        module.weight = module.weight_orig * inputs[0].std()

    layer.register_forward_pre_hook(demodulate)
    return layer


def looks_at_the_output(layer):
    def keep(module, inputs, output):
        return output * 1.0

    layer.register_forward_hook(keep)
    return layer


def both(layer):
    return looks_at_the_output(parametrizations.weight_norm(layer))


def shared():
    model = net(parametrizations.spectral_norm)
    model[5] = parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
    lists = [model[i].parametrizations["weight"] for i in (3, 5)]
    lists[1].original = lists[0].original
    return model.eval()


class Own(nn.Conv2d):
    """A class of its own, which computes what its base does."""

    def forward(self, x):
        return super().forward(x) * 1.0


def own():
    model = net()
    model[3] = prune.l1_unstructured(Own(8, 8, 3, padding=1), "weight", 0.5)
    return model.eval()


def tracked(channels):
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=True)


def masked(kind):
    def make():
        return gfx.apply({"passes": [{"mask": {"kind": kind, "strength": 0.1}}]}, net(), X)

    return make


MODELS = {
    "plain": net,
    "spectral norm": lambda: net(parametrizations.spectral_norm),
    "weight norm": lambda: net(parametrizations.weight_norm),
    "prune": lambda: net(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
    "reads the input": lambda: net(reads_the_input),
    "forward hook": lambda: net(looks_at_the_output),
    "parametrization and hook": lambda: net(both),
    "shared original": shared,
    "class of its own": own,
    "instance norm": lambda: net(norm=nn.InstanceNorm2d),
    "tracked instance norm": lambda: net(norm=tracked),
    "penalised": masked("slimming"),
    "elements": lambda: gfx.apply({"passes": [{"mask": {"granularity": "element"}}]}, net(), X),
    "training": lambda: net().train(),
}
FIELDS = {
    "channel_prune": {"ratio": 0.5},
    "decompose": {"kind": "low_rank", "rank": 0.5},
    "refit": {"max_steps": 1} if "max_steps" in str(passes()["refit"].__doc__) else {},
}
TRIED = sorted(set(passes()) - {"distill_taps"})


# fields that a pass refuses, on any model
REFUSED = [
    ("mask", {"kind": "slimming", "granularity": "element"}),
    ("mask", {"pattern": "2:4", "granularity": "filter", "sparsity": 0.3}),
    ("mask", {"proximal": True}),
    ("channel_prune", {"ratio": 0.5, "widths": {"0": 4}}),
    ("channel_prune", {"scope": "knapsack"}),
    ("channel_prune", {"ratio": 0.5, "importance": "activation"}),
    ("channel_prune", {"ratio": 0.01}),
    ("channel_prune", {"ratios": {"*": 0.01}}),
    ("channel_prune", {"ratio": 0.5, "round_to": 8}),
    ("channel_prune", {"ratio": 0.5, "round_to": 16, "min_channels": 8}),
    ("channel_prune", {"ratio": 0.1, "round_to": 8}),
    ("channel_prune", {"ratio": 0.5, "min_channels": 8}),
    ("channel_prune", {"ratio": 0.5, "max_ratio": 0.01}),
    ("decompose", {"kind": "low_rank", "rank": 0.5, "norm": "batch"}),
    ("decompose", {"kind": "low_rank", "rank": 0.5, "init": "data"}),
    ("distill_taps", {"layers": ["0"], "rule": "gcc"}),
    ("distill_taps", {"serial": [1]}),
    ("distill_taps", {"rule": "gan_compression"}),
    ("distill_taps", {"rule": "gcc", "serial": [100]}),
    ("strip_taps", {"targets": ["x"]}),
]
BUDGETS = [{"macs": 0.01}, {"macs": 0.9}, {"params": 0.01}]
BOUNDS = [{}, {"round_to": 8}, {"max_ratio": 0.1}, {"min_channels": 8, "round_to": 4}]


def first_clause(text):
    """What a refusal is about, without its numbers."""
    return re.sub(r"[\d.]+", "#", re.split(r" \(|; ", text)[0]).partition("=")[2] or text


def check_advice(call):
    """Follows every advice of every refusal of a call, and counts them."""
    count = 0
    for at, text in call.refusals():
        assert not_followed(text) == [], text
        for advice, taken in followed(call, text):
            count += 1
            ran = RUN.fullmatch(advice)
            assert ran is None or ran.group(1) in passes(), text
            assert ran is None or ran.group(1) != call.passes[-1][0], text
            again = [why for node, why in taken.refusals() if node == at]
            assert not any(advice in why or why == text for why in again), (advice, again)
            if advice.startswith(("lower", "raise")):
                assert first_clause(text) not in map(first_clause, again), (advice, text, again)
    return count


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_advised_works_and_was_not_just_run(model, name):
    call = Call(MODELS[model], ((name, FIELDS.get(name, {})),), data=True)
    check_advice(call)
    if passes()[name](**FIELDS.get(name, {})).needs_data:
        check_advice(replace(call, data=False))


@pytest.mark.parametrize(("name", "fields"), REFUSED, ids=lambda value: str(value)[:60])
def test_advice_about_fields_works(name, fields):
    assert check_advice(Call(MODELS["plain"], ((name, fields),))) > 0


def test_advice_about_importance_works():
    call = Call(MODELS["instance norm"], (("channel_prune", {"importance": "bn_scale"}),))
    assert check_advice(call) == 1


@pytest.mark.parametrize("fields", [{"keep": ["*"]}, {"targets": ["5"]}], ids=str)
def test_no_bound_is_blamed_where_names_keep_all(fields):
    ((_, text),) = Call(MODELS["plain"], (("channel_prune", {"ratio": 0.5, **fields}),)).refusals()
    assert "; keep, targets or approximate leave none of the free groups to narrow. " in text
    assert not re.search("lower|raise", text)


@pytest.mark.parametrize("fields", BOUNDS, ids=str)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_advice_about_budgets_works(budget, fields):
    check_advice(Call(MODELS["plain"], (("channel_prune", fields),), budget=budget))


@pytest.mark.parametrize("model", MODELS)
def test_what_was_folded_is_not_advised_to_be_folded_before_saving(model, tmp_path):
    recipe = {"passes": ["fold_parametrizations"]}
    small = gfx.apply(recipe, MODELS[model](), X)
    said = ""
    try:
        gfx.save(small, tmp_path / "small.gfx")
    except gfx.ArchiveError as error:
        said = str(error)
    assert not RUN.findall(said)
    assert "gfx.trace" not in said


def messages():
    """Every piece of text in the source that is no docstring, with where it stands."""
    for package in (gfx, builtin):
        for path in sorted(Path(package.__file__).parent.rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            docs = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
            for n in ast.walk(tree):
                if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs:
                    yield f"{path.name}:{n.lineno}", n.value


NAMED = re.compile(r"`(\S[^`]*)`")


def known_names():
    """Everything that a message may name: passes, verbs, fields, functions, keys of recipes."""
    verbs = typer.main.get_command(app).commands
    fields = {f for kind in passes().values() for f in kind.__dataclass_fields__}
    keys = {field.name for field in dataclasses.fields(gfx.Recipe)}
    members = {name for kind in (gfx.Pass, gfx.Context, gfx.Outcome) for name in dir(kind)}
    called = {f"gfx {verb}" for verb in verbs}
    own = {*passes(), *shipped(), *verbs, *called, *fields, *keys, *members, *options(), *dir(gfx)}
    return own | of_systems()


def of_systems():
    """The keys of a system, of its stages and their `fit:`, and the terms with their fields."""
    kinds = (System, SystemStage, Fit, Critic, Guide, Partner, *terms().values())
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    spelt = {*_KEYS, *_STAGE_KEYS, *fit_keys(), *terms()}
    return (fields - {"length", "passes"}) | spelt


def fit_keys():
    """The keys that `fit:` takes, as the error of a wrong one looks them up."""
    like = {field.name for field in dataclasses.fields(Fit)} - {"length"}
    return like | {"epochs", "steps"}


def is_fit(text):
    """Whether a text such as `clip: 1` is a field of `fit:`, or of a player, with its value."""
    try:
        given = yaml.safe_load(text)
        if not isinstance(given, dict) or None in given.values():
            return False
        if given.keys() <= {field.name for field in dataclasses.fields(Partner)} - {"losses"}:
            return bool(Partner.read("back", {"losses": {"cycle": 10}, **given}))
        return bool(read_fit({"losses": {"l1": 1}, **given}, "fit"))
    except (gfx.RecipeError, yaml.YAMLError):
        return False


@pytest.mark.parametrize("key", sorted(fit_keys()))
def test_every_key_of_a_fit_that_the_scan_knows_is_read(key):
    with pytest.raises(gfx.RecipeError) as error:
        read_fit({key: object()}, "fit")
    assert "unknown field" not in str(error.value)


def test_every_name_in_backquotes_of_a_message_exists():
    declared = re.compile(r"(\w+): .* = \w+")  # a line of a class, to be written so
    names = [(where, name) for where, text in SAID for name in NAMED.findall(text)]
    names = [(w, m.group(1) if (m := declared.fullmatch(n)) else n) for w, n in names]
    names = [(w, n.removesuffix(":")) for w, n in names if not is_fit(n)]
    assert [(w, n) for w, n in names if n not in known_names()] == []
    assert names


def test_every_field_that_a_message_gives_a_value_exists_and_takes_it():
    """`use granularity: element`, `take init=svd`: a recipe with that would be read."""
    shaped = re.compile(r"\b(?:use|take|with|or|and) ([a-z_]+)[:=] ?([\w:]+)(?!\()")
    kinds = {name: typing.get_type_hints(kind) for name, kind in passes().items()}
    seen, wrong = 0, []
    for where, text in SAID:
        for field, value in shaped.findall(text):
            having = [name for name, hints in kinds.items() if field in hints]
            seen += bool(having)
            if having and not any(takes(name, field, value) for name in having):
                wrong.append((where, field, value))
    assert wrong == []
    assert seen > 5


def takes(name, field, value):
    """Whether a pass may be given a value, in words, for a field."""
    try:
        build_pass(passes()[name], {field: yaml.safe_load(value)})
    except gfx.RecipeError as error:
        return f"{field}: " not in str(error) and f"{field}=" not in str(error)
    return True


def resolves(dotted):
    """Whether a dotted name of gfx is there, as a module or in one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        try:
            for name in parts[cut:]:
                found = getattr(found, name)
        except AttributeError:
            return False
        return True
    return False


def options():
    command = typer.main.get_command(app)
    params = [*command.params, *(p for c in command.commands.values() for p in c.params)]
    return {o for p in params for o in (*p.opts, *p.secondary_opts)} | {"--help"}


SAID = [(where, text) for where, text in messages() if " " in text]


def test_every_function_that_a_message_names_exists():
    calls = re.compile(r"\bgfx(?:\.\w+)+(?=\()")
    missing = [(w, n) for w, text in SAID for n in calls.findall(text) if not resolves(n)]
    assert missing == []
    assert sum(bool(calls.findall(text)) for _, text in SAID) > 10


def test_every_option_that_a_message_names_exists():
    spelled = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    known = options()
    others = {"--group", "--named", "--no-deps"}  # of the style sheets of pages; of pip
    missing = [
        (where, option)
        for where, text in SAID
        for option in spelled.findall(text)
        if option.rstrip("-") not in known | others
    ]
    assert missing == []


def test_every_pass_and_recipe_that_a_message_names_exists():
    shaped = re.compile(r"\b(?:run|pass|passes|recipe) ([a-z]+_[a-z_]+)\b(?!=)")
    known = {*passes(), *shipped()}
    missing = [(w, n) for w, text in SAID for n in shaped.findall(text) if n not in known]
    assert missing == []
