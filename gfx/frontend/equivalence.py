"""Checks that a graph returns what the model returns on its example inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from gfx.errors import InputError
from gfx.frontend.compare import (
    difference,
    gradient_difference,
    run,
    run_backward,
    run_fake,
    run_in_training,
    where_it_fails,
)
from gfx.frontend.forward_hooks import hook_names
from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.kept_state import asks_for_mode
from gfx.frontend.leaf_ops import is_leaf
from gfx.frontend.refusal import Refusal, first_line
from gfx.ir.computed_tensors import unknown_hooks
from gfx.ir.execute import draw_like
from gfx.ir.shapes.fake_runner import FakeRunner
from gfx.ir.torch_logging import quiet_torch
from gfx.objects.take_apart import leaves, plain

__all__ = ["EquivalenceCheck"]

Call = Callable[[Arguments], Any]

_TRAINING = "forward asks for its training mode: the graph keeps what it does in training"
_EVALUATION = (
    "forward asks for its mode: in training mode the graph keeps what the model does in "
    "evaluation ({})"
)
_STRUCTURE = "the graph returns plain containers where the model returns its own kind"


@dataclass
class EquivalenceCheck:
    """Compares graphs with the model; runs the model once, and only when it is needed.

    1. In eval mode. A model in training mode may instead agree in training mode, seeded alike.
    2. On the meta device, where the CPU lacks an operation, and with `check=False`: shapes only.
    3. On fresh inputs too, where a value of one run could be in the graph: it holds tensors that
       are no parameters or buffers, or the model has hooks or parts that stay whole.
    4. Gradients of parameters and inputs too, there and where `gradients` asks for them.
    5. After a run on fresh inputs too, where a run writes to the model: the next may read it.
    6. In training mode too, where code of the model asks for its mode; a difference is a remark.
    """

    model: nn.Module
    arguments: Arguments
    check: bool
    shapes_only: bool = False
    expected: dict[bool, Any] = field(default_factory=dict)  # the model's results, by mode
    remarks: list[str] = field(default_factory=list)
    leaves: dict[Any, Any] = field(default_factory=dict)  # see gfx.ir.shapes.fake_runner
    written: set[str] = field(default_factory=set)  # by a run of the model, on itself

    def __post_init__(self) -> None:
        values = leaves(self.arguments.values())
        tensors = [t for t in values if isinstance(t, torch.Tensor)] + list(self.model.parameters())
        self.shapes_only = any(t.is_meta for t in tensors)

    @property
    def by_value(self) -> bool:
        """Whether graphs are compared by value, on the example inputs."""
        return self.check and not self.shapes_only

    def look(self) -> None:
        """Runs the model, so that inputs which it does not take are found first.

        Raises: InputError if it does not run.
        """
        if self.check:
            self.result(training=False)

    def notes(self, module: fx.GraphModule, *, gradients: bool = False) -> list[str]:
        """Compares a graph with the model; returns what a user should know.

        Raises: Refusal if they differ; InputError if the model does not run.
        """
        if not self.check and self.fits(module, keep=True):
            return []
        expected = self.result(training=False)
        got, problem = self.compare(module, training=False)
        if problem is None:
            self.look_closer(module, gradients)
            self.run_again()
            self.train_once(module)
            same = pytree.tree_structure(expected) == pytree.tree_structure(plain(got))
            return self.remarks + ([] if same else [_STRUCTURE])
        may_train = self.model.training and not self.shapes_only
        if may_train and self.compare(module, training=True)[1] is None:
            return [_TRAINING]
        kept = _could_keep(self.model, module)
        hint = f"; perhaps a value of one run is kept by {kept}" if kept else ""
        raise Refusal(f"the graph computes something else: {problem}{hint}")

    def look_closer(self, module: fx.GraphModule, gradients: bool) -> None:
        """Compares on fresh inputs, and gradients (rules 3 and 4).

        Raises: Refusal if they differ.
        """
        kept = _could_keep(self.model, module)
        if self.shapes_only or not self.check or not (kept or gradients):
            return
        generator = torch.Generator().manual_seed(1)
        fresh = self.arguments.map(lambda tensor: draw_like(tensor, generator))
        model, graph = _as_model(self.model), _as_graph(module)
        try:
            expected = run(self.model, model, fresh, training=False)
        except Exception:  # the model takes inputs like the example only
            fresh = self.arguments
            expected = self.result(training=False)
        problem = difference(expected, run(module, graph, fresh, training=False))
        if problem:
            raise Refusal(
                f"on other inputs than the example the graph computes something else ({problem}): "
                f"a value of one run is kept and read again{kept and f', by {kept}'}"
            )
        try:
            wanted = run_backward(self.model, model, fresh)
        except Exception:  # it cannot be trained, so there is nothing to compare
            return
        problem = gradient_difference(wanted, run_backward(module, graph, fresh))
        if problem:
            raise Refusal(f"the graph has the model's values, but {problem}")

    def run_again(self) -> None:
        """Compares the model with itself, after another run (rule 5).

        Raises: Refusal if what one run keeps changes the next.
        """
        if not self.written or not self.by_value:
            return
        model, generator = _as_model(self.model), torch.Generator().manual_seed(3)
        first = self.arguments.map(lambda tensor: draw_like(tensor, generator))
        try:
            again = run(self.model, model, self.arguments, training=False, first=first)
        except Exception:  # the model takes inputs like the example only
            again = run(self.model, model, self.arguments, training=False, first=self.arguments)
        problem = difference(self.result(training=False), again)
        if problem:
            kept = ", ".join(sorted(self.written)[:3])
            raise Refusal(f"what one run of forward keeps ({kept}) changes the next: {problem}")

    def train_once(self, module: fx.GraphModule) -> None:
        """Compares in training mode (rule 6)."""
        if not self.by_value or not asks_for_mode(self.model):
            return
        try:
            wanted = run_in_training(self.model, _as_model(self.model), self.arguments)
            got = run_in_training(module, _as_graph(module), self.arguments)
        except Exception:  # a batch of one, or a loss that asks for more
            return
        problem = difference(wanted, got)
        if problem:
            self.remarks = [*self.remarks, _EVALUATION.format(problem)]

    def fits(self, module: fx.GraphModule, *, keep: bool = False) -> bool:
        """Whether a graph runs on the shapes of the inputs.

        `keep` leaves the shapes on the nodes, in `meta["val"]`.
        """
        from torch._subclasses.fake_tensor import FakeTensorMode

        inputs = self.arguments.inputs()
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        keeps = False
        try:
            with quiet_torch():
                FakeRunner(module, inputs, mode, known=self.leaves).run(*inputs)
            keeps = keep
        except InputError:
            return False  # the run on real tensors finds the cause
        finally:
            for node in () if keeps else module.graph.nodes:
                node.meta.pop("val", None)
        return True

    def compare(self, module: fx.GraphModule, training: bool) -> tuple[Any, str | None]:
        """Returns what the graph returns, and how it differs."""
        try:
            expected = self.result(training)
            got = self.outcome(module, _as_graph(module), training)
        except InputError:
            raise
        except Exception as error:
            return None, f"it does not run: {first_line(error)}"
        return got, difference(expected, got)

    def result(self, training: bool) -> Any:
        """Returns what the model returns.

        Raises: InputError if it does not run in eval mode.
        """
        if training not in self.expected:
            try:
                self.expected[training] = self.outcome(self.model, _as_model(self.model), training)
            except Exception as error:
                if training:
                    raise
                self.expected[training] = self.without_kernel(error)
        return self.expected[training]

    def without_kernel(self, error: Exception) -> Any:
        """Falls back on shapes where the CPU cannot do the arithmetic (rule 2)."""
        call = _as_model(self.model)
        if isinstance(error, NotImplementedError) or "not implemented for" in str(error):
            self.shapes_only = True
            self.remarks = [f"not compared by value: {first_line(error)}"]
            try:
                return run_fake(self.model, call, self.arguments)
            except Exception as failed:
                raise where_it_fails(self.model, call, self.arguments) from failed
        raise where_it_fails(self.model, call, self.arguments) from error

    def outcome(self, module: nn.Module, call: Call, training: bool) -> Any:
        """Runs the model or a graph."""
        if self.shapes_only:
            return run_fake(module, call, self.arguments)
        written = self.written if module is self.model else None
        return run(module, call, self.arguments, training, written=written)


def _could_keep(model: nn.Module, module: fx.GraphModule) -> str:
    """Names what could have put a value of one run into a graph; "" if nothing could."""
    for path, part in model.named_modules():
        names = [*hook_names(part), *unknown_hooks(part)]
        if names:
            return f"the hook {names[0]} of {path or 'the model'}"
    known = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    for node in module.graph.nodes:
        if node.op == "get_attr" and node.target not in known:
            return f"the tensor {node.target}"
        if node.op == "call_module" and not is_leaf(module.get_submodule(str(node.target))):
            return f"{node.target}, which stays whole"
    return ""


def _as_model(model: nn.Module) -> Call:
    # a GraphModule that fails also prints its own traceback to stderr
    function = model.forward if isinstance(model, fx.GraphModule) else model
    return lambda arguments: arguments.call(function, arguments.values())


def _as_graph(module: fx.GraphModule) -> Call:
    return lambda arguments: module.forward(*arguments.inputs())
