"""What gfx advises exists, works for the case at hand, and is never what has just been run."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from torch.nn.utils import parametrizations, prune

import gfx
import passes as builtin
from gfx.cli import app
from gfx.pipeline.recipe import shipped
from gfx.pipeline.registry import passes

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ADVICE = re.compile(r"\brun (\w+) (?:before|first)\b")


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


def told(names, model):
    """Everything that a recipe's run says it refuses, each with where."""
    recipe = {"passes": [{name: FIELDS.get(name, {})} for name in names]}
    try:
        small = gfx.apply(recipe, model, X, data=[X] * 4)
    except gfx.GfxError as error:
        return [("", str(error))]
    return [(skip.node, skip.why) for p in gfx.report(small).passes for skip in p.skips]


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_advised_works_and_was_not_just_run(model, name):
    for node, why in told([name], MODELS[model]()):
        for advised in ADVICE.findall(why):
            assert advised in passes(), why
            assert advised != name, why
            again = told([advised, name], MODELS[model]())
            assert not [w for at, w in again if at == node and advised in ADVICE.findall(w)]


@pytest.mark.parametrize("model", MODELS)
def test_what_was_folded_is_not_advised_to_be_folded_before_saving(model, tmp_path):
    recipe = {"passes": ["fold_parametrizations"]}
    small = gfx.apply(recipe, MODELS[model](), X)
    said = ""
    try:
        gfx.save(small, tmp_path / "small.gfx")
    except gfx.ArchiveError as error:
        said = str(error)
    assert not ADVICE.findall(said)
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
    others = {"--group", "--no-deps"}  # of the style sheet of a page; of pip
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
