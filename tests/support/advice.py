"""Finds advice in refusals and follows it: what a reader of the message would do next."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

import gfx
from gfx.pipeline.registry import passes

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
RUN = re.compile(r"\brun (\w+) (?:before|first)\b")


@dataclass(frozen=True)
class Call:
    """A call of gfx.apply that may be refused."""

    model: Callable[[], nn.Module]
    passes: tuple[tuple[str, Mapping[str, Any]], ...]
    budget: Mapping[str, Any] | None = None
    data: bool = False
    steps: tuple[Callable[[nn.Module], object], ...] = field(default=())  # done to the model

    def refusals(self) -> list[tuple[str, str]]:
        """Everything that the call says it refuses, each with where."""
        model = self.model()
        for step in self.steps:
            step(model)
        recipe: dict[str, Any] = {"passes": [{name: dict(f)} for name, f in self.passes]}
        if self.budget:
            recipe["budget"] = dict(self.budget)
        try:
            small = gfx.apply(recipe, model, X, data=[X] * 8 if self.data else None)
        except gfx.GfxError as error:
            return [("", str(error))]
        return [(skip.node, skip.why) for p in gfx.report(small).passes for skip in p.skips]


def with_field(call: Call, name: str, value: Any) -> Call:
    """Sets a field of the last pass."""
    last, given = call.passes[-1]
    assert name in fields_of(last), f"{last} has no field {name}"
    return replace(call, passes=(*call.passes[:-1], (last, {**given, name: value})))


def without_field(call: Call, name: str) -> Call:
    """Leaves a field of the last pass out; it is one that was given."""
    last, given = call.passes[-1]
    assert name in given, f"{name} was not given to {last}"
    left = {key: value for key, value in given.items() if key != name}
    return replace(call, passes=(*call.passes[:-1], (last, left)))


def fields_of(name: str) -> set[str]:
    """Names the fields of a pass."""
    return {*passes()[name].__dataclass_fields__}


def value_of(text: str) -> Any:
    """Reads a value as a recipe would."""
    import yaml

    return yaml.safe_load(text.strip(" .,"))


def loosened(call: Call, words: str) -> Call:
    """Moves the fields of the last pass that are to be lowered or raised, as far as they go."""
    for up, name in re.findall(r"(lower|raise) (\w+)", words):
        value: Any = 1 if up == "lower" else {"ratio": 0.999}.get(name, 1.0)
        if name == "ratios":
            value = dict.fromkeys(call.passes[-1][1]["ratios"], 0.999)
        call = with_field(call, name, value)
    return call


def richer(call: Call) -> Call:
    """Raises the budget to the least that can be reached, which the refusal says in short."""
    ((measure, _),) = (call.budget or {}).items()
    least = re.search(r"(?:reach|it) is ([\d.]+) ?([KMGT]?)", dict(call.refusals())[""])
    assert least, "no least value is said"
    number, unit = least.groups()
    return replace(call, budget={measure: f"{1.01 * float(number):.4g}{unit}"})


def _binarized(model: nn.Module) -> None:
    gfx.schedule(model).binarize(0.5)


def _others(call: Call) -> Call:
    """Names the layers that the last pass takes, each tried alone."""
    paths = [path for path, _ in gfx.trace(call.model(), X).module.named_modules()]
    alone = [with_field(call, "targets", [path]) for path in paths if path]
    taken = [
        each.passes[-1][1]["targets"][0] for each in alone if not dict(each.refusals()).get("")
    ]
    return with_field(call, "targets", taken)


# what a message advises, and the call of one who does so; a group is a name or a value
FOLLOWED: list[tuple[re.Pattern[str], Callable[..., Call]]] = [
    (RUN, lambda call, name: replace(call, passes=((name, {}), *call.passes))),
    (
        re.compile(r"\bcall model\.eval\(\) first"),
        lambda call: replace(call, steps=(*call.steps, nn.Module.eval)),
    ),
    (
        re.compile(r"\bcall schedule\.binarize\(alpha\) before"),
        lambda call: replace(call, steps=(*call.steps, _binarized)),
    ),
    (re.compile(r"\bgive data= to gfx\.apply"), lambda call: replace(call, data=True)),
    (re.compile(r"\bgive a budget\b"), lambda call: replace(call, budget={"macs": 0.9})),
    (re.compile(r"\bdistill_taps puts them in\b"), lambda call: before(call, "distill_taps")),
    (re.compile(r"\bthe pass mask puts some in\b"), lambda call: before(call, "mask")),
    (
        re.compile(r"\b((?:lower|raise) (?!the )\w+(?: and (?:lower|raise) \w+)*)"),
        loosened,
    ),
    (re.compile(r"\braise the budget\b"), richer),
    (re.compile(r"\bname the others in `targets`"), _others),
    (
        re.compile(r"\bgive numbers from (\d+) to \d+"),
        lambda call, number: with_field(call, "serial", [int(number)]),
    ),
    (re.compile(r"\bleave (\w+) out\b"), without_field),
    (re.compile(r"\badd it\b"), lambda call: with_field(call, "rule", "gcc")),
    (
        re.compile(r"\b(?:use|take|with) (\w+)[:=] ?([\w:.]*\w) and (\w+)[:=] ?([\w:.]*\w)"),
        lambda call, a, x, b, y: with_field(with_field(call, a, value_of(x)), b, value_of(y)),
    ),
    (
        re.compile(r"\b(?:use|take|with|or) (\w+)[:=] ?([\w:.]*\w)(?! and \w+[:=])"),
        lambda call, name, value: with_field(call, name, value_of(value)),
    ),
    (
        re.compile(r"\b(\w+): (\w+) lets them go"),
        lambda call, name, value: with_field(call, name, value_of(value)),
    ),
    (
        re.compile(r"\buse another, such as (\w+)"),
        lambda call, name: with_field(call, "importance", name),
    ),
    (
        re.compile(r"\b(\w+)(?:=\S+)? and (\w+)(?:=\S+)? both say .* give one of them"),
        lambda call, _, name: without_field(call, name),
    ),
]
# advice that a program cannot take for its reader
FOR_PEOPLE = re.compile(
    r"repair the model's weights|move the model there|write it as an nn\.InstanceNorm2d|"
    r"leave out what the model does not take|name modules in layers|name another file|"
    r"give one of [^;.]+"
)
VERBS = "give|use|run|call|set|pass|lower|raise|leave|drop|add|take|say|write|name|choose|repair"
SAID = re.compile(rf"(?:; |, or | or |\. )(?:or )?((?:{VERBS})\b [^;,.]+)", re.IGNORECASE)


def before(call: Call, name: str) -> Call:
    """Runs a pass in front."""
    return replace(call, passes=((name, {}), *call.passes))


def followed(call: Call, text: str) -> Iterator[tuple[str, Call]]:
    """Yields each advice of a refusal, and the call of one who follows it."""
    for pattern, follow in FOLLOWED:
        for found in pattern.finditer(text):
            yield found.group(), follow(call, *found.groups())


def not_followed(text: str) -> list[str]:
    """Lists what a refusal asks of its reader and nothing here does."""
    spans = [m.span() for pattern, _ in FOLLOWED for m in pattern.finditer(text)]
    spans += [m.span() for m in FOR_PEOPLE.finditer(text)]
    return [
        m.group(1)
        for m in SAID.finditer(text)
        if not any(a < m.end(1) and m.start(1) < b for a, b in spans)
    ]
