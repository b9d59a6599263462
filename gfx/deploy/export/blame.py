"""Finds the node that cannot be exported, and says why and what to do."""

import re
from collections.abc import Iterator
from typing import Any

from torch import fx

from gfx.deploy.export.capture import origin
from gfx.errors import ExportError
from gfx.ir.execute import copied, distance, on_meta, run
from gfx.ir.interpreter import Get, Interpreter
from gfx.ir.modules import CsrLinear
from gfx.ir.preserve import devices_of, evaluating
from gfx.ir.program import Program
from gfx.ir.random_state import Chance, same

__all__ = ["NoForm", "check_chance", "check_exportable", "refusal"]

_EXECUTING = re.compile(r"While executing %(\w+)")
_NO_FORM = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
_NOT_CONSTANT = "Unsupported attribute type"  # of an ONNX node, such as the groups of a Conv
_LONGEST = 200  # characters of torch's message


class NoForm(ExportError):
    """Says that an operation has no form in ONNX at any size."""


def check_exportable(program: Program) -> None:
    """Checks for known causes that have no form outside of torch.

    Raises: ExportError that names the node, says why, and what to do.
    """
    if on_meta(program):
        raise ExportError(
            "the program is on the meta device and has no weights to export; load them first"
        )
    for node in program.nodes():
        if node.op == "call_module" and isinstance(program.submodule(node), CsrLinear):
            raise ExportError(
                f"node {_described(program.module, node.name)} keeps its weight in torch's CSR "
                "layout, which torch.export cannot take; make it with fold_masks: {layout: dense}"
            )


def check_chance(program: Program) -> None:
    """Checks that the output of a program does not depend on random numbers.

    Raises: ExportError that names the node that draws them.
    """
    drawing = _drawing(program)
    if not drawing:
        return
    inputs = program.example_inputs
    if distance(run(program, inputs, 1), run(program, inputs, 2)) == 0:
        return  # dropped again, or multiplied by zero
    raise ExportError(
        f"node {_described(program.module, drawing[0])} draws random numbers"
        f"{f', and so do {len(drawing) - 1} more' if len(drawing) > 1 else ''}, so that what is "
        "exported cannot be compared with the program; make them an input or a buffer of the model"
        " (a dropout: trace the model in eval mode), or export without the check"
    )


def refusal(error: Exception, module: fx.GraphModule, what: str) -> ExportError:
    """Says in a paragraph which node could not be exported, and why.

    `what` is the refusing exporter: torch.export, or torch's exporter to ONNX.
    """
    chain = list(_chain(error))
    name = next((name for link in chain if (name := _node_name(link, module))), None)
    where = f"node {_described(module, name)}" if name else "the program"
    form = next((found[1] for link in chain if (found := _NO_FORM.search(str(link)))), None)
    if form is not None:
        return NoForm(
            f"{where} cannot be exported: torch has no ONNX form for {form}; write it with other "
            "operations, or export to .pt2"
        )
    said = f"{what} says: {_first_words(chain[-1])}"
    if any(_NOT_CONSTANT in str(link) for link in chain):
        said = "a setting that ONNX wants constant (groups, for example) follows from an input size"
    return ExportError(
        f"{where} cannot be exported: {said}; write that part of the model without it"
    )


def _drawing(program: Program) -> list[str]:
    """Lists the nodes that draw random numbers in eval mode."""
    chance = Chance(devices_of(program))
    runner = Interpreter(program.module)
    found: list[str] = []

    def see(node: fx.Node, get: Get) -> Any:
        before = chance.get()
        value = runner.value(node, get)
        if not same(before, chance.get()):
            found.append(node.name)
        return value

    inputs = copied(program.example_inputs)
    with evaluating(program):
        runner.run(*inputs, see=see)
    return found


def _described(module: fx.GraphModule, name: str) -> str:
    """Writes a node with its target: `up.0.conv (ConvTranspose2d)`, `add (operator.add)`."""
    node = next((node for node in module.graph.nodes if node.name == name), None)
    if node is None or node.op in ("placeholder", "output", "get_attr"):
        return name
    if node.op == "call_module":
        return f"{node.target} ({type(module.get_submodule(str(node.target))).__name__})"
    if isinstance(node.target, str):
        return f"{name} (.{node.target})"
    called = fx.node._get_qualified_name(node.target)
    return name if "._" in called else f"{name} ({called.removeprefix('_')})"  # torch._C._special


def _node_name(error: BaseException, module: fx.GraphModule) -> str | None:
    """Finds the node of the graph at which an exception was raised."""
    names = {node.name for node in module.graph.nodes}
    said = _EXECUTING.search(str(error))
    if said is not None and said[1] in names:
        return said[1]
    trace = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("node")
        if isinstance(node, fx.Node) and (made := origin(node)) in names:
            return made
        trace = trace.tb_next
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Iterates over an exception and what caused it, the first cause last."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__


def _first_words(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    return f"{kind}: {text[:_LONGEST]}" if text else kind
