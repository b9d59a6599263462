"""Runs a model and its graph, and compares the results."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gfx.errors import InputError
from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.kept_state import kept_values, newly_kept
from gfx.frontend.private_copy import untouched
from gfx.frontend.refusal import first_line
from gfx.frontend.transformer_forwards import plain_forwards
from gfx.ir.execute import tolerance_of
from gfx.ir.random_state import seed_all
from gfx.ir.shapes.fake_tensors import fake_of
from gfx.ir.torch_logging import quiet_torch
from gfx.objects.take_apart import plain

__all__ = [
    "difference",
    "gradient_difference",
    "record",
    "run",
    "run_backward",
    "run_fake",
    "run_in_training",
    "where_it_fails",
]


def run(
    module: nn.Module,
    call: Callable[..., Any],
    arguments: Arguments,
    training: bool,
    first: Arguments | None = None,
    written: set[str] | None = None,
) -> Any:
    """Runs a module for real on copies of the arguments, seeded; leaves no trace on it.

    `call` passes the values of the arguments on to the module. It runs on `first` before, if these
    are given. What the run writes on the module is added to `written`.
    """
    with untouched(module), plain_forwards(module), torch.no_grad():
        _set_mode(module, training)
        before = kept_values(module) if written is not None else {}
        for given in (first, arguments) if first is not None else (arguments,):
            seed_all(0)
            result = call(given.map(lambda tensor: tensor.detach().clone()))
        if written is not None:
            written |= newly_kept(module, before)
        return result


def run_in_training(module: nn.Module, call: Callable[..., Any], arguments: Arguments) -> Any:
    """Runs a module as `run` does, after its own `train()`."""
    with untouched(module), plain_forwards(module), torch.no_grad():
        seed_all(0)
        module.train()
        return call(arguments.map(lambda tensor: tensor.detach().clone()))


def run_backward(
    module: nn.Module, call: Callable[..., Any], arguments: Arguments
) -> dict[str, torch.Tensor]:
    """Runs a module in eval mode and back; returns the gradients of parameters and inputs by name.

    The loss weighs every element of the outputs differently. What gets no gradient has a zero.
    """
    with untouched(module), plain_forwards(module), torch.enable_grad():
        seed_all(0)
        _set_mode(module, False)
        named = {n: p for n, p in module.named_parameters() if p.is_floating_point()}
        frozen = [p for p in named.values() if not p.requires_grad]
        given: dict[str, torch.Tensor] = {}

        def own(tensor: torch.Tensor) -> torch.Tensor:
            twin = tensor.detach().clone()
            if twin.is_floating_point():
                given[f"input {len(given)}"] = twin.requires_grad_()
            return twin

        for parameter in frozen:
            parameter.requires_grad_(True)
        try:
            leaves = _leaves(call(arguments.map(own)))
            outputs = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
            loss = sum(_weighed(x) for x in outputs)
            wanted = {**named, **given}
            if not isinstance(loss, torch.Tensor):
                return {name: torch.zeros_like(x) for name, x in wanted.items()}
            found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)
    pairs = zip(wanted.items(), found, strict=True)
    return {n: torch.zeros_like(x) if g is None else g.detach() for (n, x), g in pairs}


def gradient_difference(
    expected: Mapping[str, torch.Tensor], got: Mapping[str, torch.Tensor]
) -> str | None:
    """Says which gradient differs most, or None if they do only by rounding.

    A gradient that is small beside the largest of all is rounding itself, as that of a bias before
    an InstanceNorm.

    Example:
        >>> gradient_difference({"a.weight": torch.zeros(2)}, {"a.weight": torch.ones(2)})
        'the gradient of a.weight differs by 1.0e+00 of its largest value'
    """
    shared = [n for n in expected if n in got and expected[n].shape == got[n].shape]
    largest = max(
        (float(x[n].abs().max()) for x in (expected, got) for n in shared if x[n].numel()),
        default=0.0,
    )
    worst, name = 0.0, ""
    for each in shared:
        a, b = expected[each].double(), got[each].double()
        if not a.numel():
            continue
        both = a.isfinite() & b.isfinite()
        error = float(torch.where(both, a - b, 0.0).abs().max())
        size = max(float(a.abs().max()), float(b.abs().max()), _SMALL_GRADIENT * largest)
        if size and error / size > worst:
            worst, name = error / size, each
    if worst <= _GRADIENTS:
        return None
    return f"the gradient of {name} differs by {worst:.1e} of its largest value"


_GRADIENTS = 0.01  # of a tensor's largest: kernels may sum in another order
_SMALL_GRADIENT = 1e-3  # of the largest of all


def _weighed(output: torch.Tensor) -> torch.Tensor:
    if output.is_complex():
        output = torch.view_as_real(output)
    steps = torch.arange(output.numel(), device=output.device, dtype=torch.float64)
    weights = torch.cos(steps).to(output.dtype).reshape(output.shape)
    return (output * weights).sum().double()


def run_fake(module: nn.Module, call: Callable[..., Any], arguments: Arguments) -> Any:
    """Runs a module in eval mode on shapes alone; the result's tensors are fake."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, Any] = {}

    def fake(tensor: torch.Tensor) -> Any:
        return fakes.setdefault(id(tensor), fake_of(mode, tensor, torch.device("cpu")))

    with quiet_torch(), untouched(module), plain_forwards(module), torch.no_grad(), mode:
        _set_mode(module, False)
        for part in module.modules():
            for group in (part._parameters, part._buffers):
                group.update({n: fake(t) for n, t in group.items() if t is not None})
        return call(arguments.map(fake))


def difference(expected: Any, got: Any) -> str | None:
    """Says how two results differ, or None if only by rounding; meta tensors by shape only.

    Example:
        >>> difference(torch.ones(2), torch.ones(3))
        'output 0 has shape 3, not 2'
    """
    wanted, given = _leaves(expected), _leaves(got)
    if len(wanted) != len(given):
        return f"there are {len(given)} outputs, not {len(wanted)}"
    pairs = enumerate(zip(wanted, given, strict=True))
    found = (_leaf_difference(f"output {i}", a, b) for i, (a, b) in pairs)
    return next((text for text in found if text), None)


def record(module: nn.Module, arguments: Arguments, paths: Collection[str]) -> dict[str, list[Any]]:
    """Runs a model and returns what the modules at some paths returned, call by call."""
    results: dict[str, list[Any]] = {path: [] for path in paths}
    if not paths:
        return results
    with untouched(module):
        for path, notes in results.items():
            module.get_submodule(path).register_forward_hook(_note(notes))
        run(module, lambda a: a.call(module, a.values()), arguments, training=False)
    return results


def _note(notes: list[Any]) -> Callable[..., None]:
    return lambda module, args, result: notes.append(result)


def where_it_fails(module: nn.Module, call: Callable[..., Any], arguments: Arguments) -> InputError:
    """Runs a model that fails and says in which module, and on what shapes."""
    stack: list[tuple[str, str]] = []
    with untouched(module):
        for path, part in module.named_modules():
            part.register_forward_pre_hook(_enter(stack, path, part), with_kwargs=True)
            part.register_forward_hook(lambda *_: stack.pop() and None)
        try:
            run(module, call, arguments, training=False)
        except Exception as error:
            place, shapes = stack[-1] if stack else ("forward", "?")
            return InputError(
                f"the model does not run on these inputs: {place} fails on shapes ({shapes}): "
                f"{first_line(error)}; pass example_inputs= (in the shell --input) that it takes"
            )
    return InputError("the model failed once and then ran on the same inputs; try again")


def _enter(stack: list[tuple[str, str]], path: str, part: nn.Module) -> Callable[..., None]:
    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        leaves = pytree.tree_leaves((args, kwargs))
        shapes = ", ".join(_shape(t) for t in leaves if isinstance(t, torch.Tensor))
        stack.append((f"{path} ({type(part).__name__})" if path else "forward", shapes))

    return enter


def _set_mode(module: nn.Module, training: bool) -> None:
    if not training:
        for part in module.modules():
            part.training = False  # not eval(): models override it


def _leaves(value: Any) -> list[Any]:
    """Flattens a result, with its objects and the mappings that pytree does not know."""
    leaves = pytree.tree_leaves(plain(value))
    nested = [_leaves(dict(x)) if isinstance(x, Mapping) else [x] for x in leaves]
    return [leaf for group in nested for leaf in group]


def _leaf_difference(name: str, expected: Any, got: Any) -> str | None:
    if not isinstance(expected, torch.Tensor) or not isinstance(got, torch.Tensor):
        nan = expected != expected and got != got  # NaN as a number is not even itself
        same = type(expected) is type(got) and (nan or expected == got)
        return None if same else f"{name} is {got!r}, not {expected!r}"
    if expected.shape != got.shape:
        return f"{name} has shape {_shape(got)}, not {_shape(expected)}"
    if expected.dtype != got.dtype:
        return f"{name} has type {got.dtype}, not {expected.dtype}"
    fake = any(t.is_meta or hasattr(t, "fake_mode") for t in (expected, got))
    if fake or not expected.numel():
        return None
    return _value_difference(name, expected, got)


def _value_difference(name: str, expected: torch.Tensor, got: torch.Tensor) -> str | None:
    if not (expected.is_floating_point() or expected.is_complex()):
        return None if torch.equal(expected, got) else f"{name} differs"
    odd = ~torch.isfinite(expected)
    if not torch.equal(odd, ~torch.isfinite(got)):
        return f"{name} is infinite or NaN in other places"
    wide = torch.complex128 if expected.is_complex() else torch.float64
    known, found = (t.masked_fill(odd, 0).to(wide) for t in (expected, got))
    error = float((known - found).abs().max() / known.abs().max().clamp_min(1e-30))
    return (
        None
        if error <= tolerance_of(expected.dtype)
        else f"{name} differs by {error:.1e} of its largest value"
    )


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
