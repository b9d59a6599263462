"""Tries one front end after the other on a model, until its graph is what the model computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import fx, nn

from gfx.errors import GfxError, TraceError
from gfx.frontend.call_rules import dtype_rules, order_rules, rank_rules, structure_rules
from gfx.frontend.compare import record
from gfx.frontend.equivalence import EquivalenceCheck
from gfx.frontend.expand_attention import has_attention, write_out_attention
from gfx.frontend.forward_hooks import leave_hooks
from gfx.frontend.inputs.infer import Inferred
from gfx.frontend.normal_form import normal_form
from gfx.frontend.refusal import Refusal, first_line
from gfx.frontend.regions import cut_gradients, has_regions
from gfx.frontend.size_conditions import add_rules, in_words, kept_rules
from gfx.frontend.symbolic_trace import symbolic_graph
from gfx.ir.program import Program, Provenance
from gfx.ir.shapes.fake_runner import leaf_results
from gfx.ir.shapes.propagate import forget_shapes, note_shapes
from gfx.progress import stage

__all__ = ["FrontEndSearch", "written_out"]

Frontend = Literal["symbolic", "export"]

_MOST_OPAQUE = 16  # leaves; a model that needs more is better split by its author


class FrontEndSearch:
    """Tries one front end after the other."""

    def __init__(
        self, model: nn.Module, inputs: Inferred, check: bool, lost: tuple[str, ...] = ()
    ) -> None:
        self.model = model
        self.lost = lost
        self.inputs = inputs
        self.check = EquivalenceCheck(model, inputs.arguments, check)
        # symbolic trace depends on no size, so smaller inferred images check it as well
        self.quick = EquivalenceCheck(model, inputs.small, check) if inputs.small else self.check

    def run(self) -> Program:
        """Goes through the front ends; again with opaque leaves while that helps."""
        self.quick.look()
        opaque = _without_code(self.model)
        while True:
            try:
                return self.attempt(opaque)
            except Refusal as refusal:
                if not refusal.path or refusal.path in opaque or len(opaque) >= _MOST_OPAQUE:
                    raise _hopeless(self.model, refusal) from refusal
                for path in self.alike(refusal.path, opaque):
                    opaque.setdefault(path, refusal.reason)

    def alike(self, path: str, opaque: dict[str, str]) -> list[str]:
        """Lists a submodule that defeats both front ends; the third of a kind brings the others."""
        kind = type(self.model.get_submodule(path))
        alike = [name for name, part in self.model.named_modules() if type(part) is kind]
        return alike if len(opaque.keys() & set(alike)) >= 2 else [path]

    def attempt(self, opaque: dict[str, str]) -> Program:
        """Tries both front ends with some submodules kept whole.

        Raises: Refusal if neither takes the model, with the reasons of both.
        """
        try:
            with _refusing():
                return self.symbolic(opaque)
        except Refusal as refusal:
            symbolic = refusal
        try:
            with _refusing():
                return self.exported(opaque)
        except Refusal as refusal:
            reason = f"symbolic trace: {symbolic.reason}; torch.export: {refusal.reason}"
            raise Refusal(reason, refusal.path or symbolic.path) from refusal

    def symbolic(self, opaque: dict[str, str]) -> Program:
        """Tries the first front end."""
        stage("tracing symbolically")
        graph, notes, rules = symbolic_graph(self.model, self.inputs.arguments, opaque)
        late = not self.check.check
        module = normal_form(self.model, graph, late=late)
        notes = notes + leave_hooks(module)
        regions = has_regions(module)
        module = self.spelt_out(module, self.quick)
        notes += self.quick.notes(module, gradients=regions) + in_words(rules)
        return self.program(module, "symbolic", opaque, notes, rules)

    def exported(self, opaque: dict[str, str]) -> Program:
        """Tries the second front end: from the most general graph to the most special."""
        from gfx.frontend.torch_export import attempts, exported_graph

        arguments = self.inputs.arguments
        recorded = record(self.model, arguments, opaque)
        last = Refusal("not tried")
        enough = False  # a quick export came through: with proofs it takes minutes, to the same end
        for attempt in attempts(arguments, opaque):
            if enough and attempt.open_sizes == "all" and not attempt.quick:
                enough = False
                continue
            stage("tracing by torch.export")
            try:
                graph, notes, rules = exported_graph(self.model, attempt, opaque, recorded)
                enough = attempt.quick
                module = self.spelt_out(normal_form(self.model, graph), self.check)
                notes += self.check.notes(module, gradients=True)
                rules = kept_rules(rules, arguments, self.check.by_value)
                rules += (*rank_rules(module, self.check, rules), *dtype_rules(module, self.check))
                return self.program(module, "export", opaque, notes + in_words(rules), rules)
            except Refusal as refusal:
                last = refusal
        raise last

    def spelt_out(self, module: fx.GraphModule, check: EquivalenceCheck) -> fx.GraphModule:
        """Writes out what a graph says in another way than the model."""
        _regions_kept(module, check)
        return written_out(module, check)

    def program(
        self,
        module: fx.GraphModule,
        frontend: Frontend,
        opaque: dict[str, str],
        notes: list[str],
        rules: tuple[str, ...] = (),
    ) -> Program:
        """Makes the program, and says where it comes from, and for which inputs it stands."""
        arguments = self.inputs.arguments
        form = (*structure_rules(arguments), *order_rules(self.quick))
        add_rules(module, (*form, *rules), arguments)
        fixed = [
            f"the argument {item.name} is fixed at {item.value!r}"
            for item in self.inputs.arguments.fixed()
        ]
        fixed += self.inputs.arguments.fixed_inside()
        lost = self.inputs.arguments.returned.lost
        fixed += [
            f"the graph returns a dictionary of fields in the place of {kind}: {reason}"
            for kind, reason in sorted(lost.items())
        ]
        provenance = Provenance(
            type(self.model).__name__,
            frontend,
            self.inputs.assumed,
            tuple(opaque.items()),
            (*fixed, *notes, *self.lost),
        )
        inputs = self.inputs.arguments.inputs()
        program = Program(module, inputs, provenance)
        leaf_results(provenance).update(self.quick.leaves)
        if self.quick is self.check:
            note_shapes(program)
        else:  # those on the nodes are of smaller images
            forget_shapes(program)
        return program


def _regions_kept(module: fx.GraphModule, check: EquivalenceCheck) -> None:
    """Detaches what leaves a region without gradients, once it is known which values are tensors.

    Raises: Refusal if the graph does not run on the shapes of the inputs.
    """
    if not has_regions(module):
        return
    if not check.fits(module, keep=True):
        raise Refusal("forward runs a part under torch.no_grad(), and its shapes are not known")
    cut_gradients(module)
    Program(module, ()).recompile()
    forget_shapes(Program(module, ()))


def _without_code(model: nn.Module) -> dict[str, str]:
    """Lists the outermost parts that are TorchScript: no front end can look into them."""
    found: dict[str, str] = {}
    for path, part in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in found)
        if isinstance(part, torch.jit.ScriptModule) and not inside:
            found[path] = "it is TorchScript, which has no Python code left to follow"
    return found


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns what a model makes torch raise into the refusal of one front end."""
    try:
        yield
    except (Refusal, GfxError):
        raise
    except Exception as error:
        raise Refusal(first_line(error)) from error


def written_out(module: fx.GraphModule, check: EquivalenceCheck) -> fx.GraphModule:
    """Writes attention out, once the shapes of its arguments are known."""
    if has_attention(module) and check.fits(module, keep=True):
        write_out_attention(module)
        Program(module, ()).recompile()
        forget_shapes(Program(module, ()))
    return module


def _hopeless(model: nn.Module, refusal: Refusal) -> TraceError:
    return TraceError(
        f"{type(model).__name__} cannot be turned into a graph: {refusal.reason}; rewrite that "
        "part of forward, or move it to a submodule of its own, which can then stay whole"
    )
