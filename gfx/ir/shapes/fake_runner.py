"""Runs graphs on fake tensors: a shape, a dtype and a device, but no storage.

Nodes run one at a time, so the time does not depend on the size of the images. Modules run as
copies, hence nothing that a forward writes (running statistics, hooks, caches) reaches them.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from gfx.errors import InputError
from gfx.ir.interpreter import Get, Interpreter
from gfx.ir.modules import is_known, is_own
from gfx.ir.random_state import keep_random_state
from gfx.ir.shapes.closed_form import infer_shape, returns_input
from gfx.ir.shapes.fake_tensors import contiguous, fake_of, strided

__all__ = ["CallContext", "FakeRunner", "leaf_results"]

# what fake tensors raise where a result depends on values
_BY_VALUE = ("DynamicOutputShapeException", "DataDependentOutputException")
# in inference these call one fused kernel, which hides the operations inside
_FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)

# provenance of programs → results of their leaves, by what equal leaves have in common
_LEAF_RESULTS: MutableMapping[object, dict[Any, Any]] = WeakIdKeyDictionary()

CallContext = Callable[[], AbstractContextManager[Any]]


class FakeRunner(Interpreter):
    """Runs a graph on fake tensors, one leaf at a time."""

    def __init__(
        self,
        module: nn.Module,
        inputs: tuple[Any, ...],
        mode: Any,
        call_context: CallContext = nullcontext,
        known: dict[Any, Any] | None = None,
        graph: fx.Graph | None = None,
    ) -> None:
        super().__init__(module, graph=graph)
        self.call_context = call_context
        self.home = _home(module, inputs)
        self.mode = mode
        self.memo: dict[int, Any] = {}  # one for all copies, so shared tensors stay shared
        self.given: dict[int, torch.Tensor] = {}  # by identity of their fakes
        self.kept: list[torch.Tensor] = []  # the memo's ids must not be reused
        self.known = {} if known is None else known  # results of equal leaves

    def run(self, *inputs: Any) -> Any:  # type: ignore[override]
        """Runs the whole graph on fakes of the inputs, and notes the value of each node."""

        def note(node: fx.Node, get: Get) -> Any:
            node.meta["val"] = value = self.value(node, get)
            return value

        self.start(pytree.tree_map_only(torch.Tensor, self.fake, inputs))
        with torch.no_grad():
            return self.step_through({}, see=note)

    def value(self, n: fx.Node, get: Get) -> Any:
        """Runs a node; errors say which one, and on what."""
        try:
            return super().value(n, get)
        except InputError:
            raise  # a rule about sizes says what is wrong
        except Exception as error:
            shapes = ", ".join(_shape(get(a)) for a in n.all_input_nodes)
            where = f"node {n.name}{_what(n, self.module)}"
            if type(error).__name__ in _BY_VALUE:
                raise InputError(
                    f"{where} returns what no shape foretells ({_first_line(error)}): gfx needs "
                    "sizes that do not depend on values; write that part with torch.where or a "
                    "product with the mask"
                ) from error
            raise InputError(
                f"{where} does not run on inputs of shape ({shapes}):"
                f" {_first_line(error)}; check the example inputs against what the model takes"
            ) from error

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Returns a fake of a tensor; single numbers keep their value, for `item()` and `int()`."""
        value = super().get_attr(target, args, kwargs)
        if not isinstance(value, torch.Tensor):
            return value
        fake = self.fake(value)
        self.given[id(fake)] = value
        if value.numel() == 1 and value.device == torch.device("cpu") and not value.requires_grad:
            fake.constant = value.detach().clone()
        return fake

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Calls a function on fakes; one that looks at values, on zeros."""
        try:
            with self.mode, self.call_context():
                return super().call_function(target, args, kwargs)
        except Exception as error:
            name = str(getattr(target, "__name__", ""))
            if not (_looks_at_values(error, name) or self.decided(args, kwargs)):
                raise
        return self.run_on_zeros(target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Calls a method on fakes; one that looks at values, on zeros."""
        try:
            with self.mode, self.call_context():
                return super().call_method(target, args, kwargs)
        except Exception as error:
            if not (_looks_at_values(error, target) or self.decided(args, kwargs)):
                raise
        return self.run_on_zeros(getattr(torch.Tensor, target), args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Calls a copy of a leaf on fakes.

        An opaque leaf that refuses them, or one that looks at values, runs on zeros.
        """
        leaf = self.fetch_attr(target)
        quick = not kwargs and self.call_context is nullcontext
        shape = infer_shape(leaf, args) if quick else None
        if shape is not None:
            return contiguous(self.mode, shape, args[0])
        if quick and returns_input(leaf, args):
            return args[0]
        key = _cache_key(leaf, args) if quick else None
        if key in self.known:
            return strided(self.mode, *self.known[key])
        shell = self.shell(leaf)
        try:
            with self.mode, self.call_context():
                result = shell(*args, **kwargs)
            if key and isinstance(result, torch.Tensor) and not _aliases(result, args):
                self.known[key] = (result.shape, result.stride(), result.dtype, result.device)
            return result
        except Exception as error:
            stubborn = _opaque(leaf) or _looks_at_values(error, type(leaf).__name__)
            if not stubborn or any(t.is_meta for t in _tensors(leaf)):
                raise
        # tensors with a history, such as the weight of an old spectral_norm, cannot be copied
        memo: dict[int, Any] = {id(t): t.detach().clone() for t in _tensors(leaf) if t.grad_fn}
        return self.run_on_zeros(copy.deepcopy(leaf, memo), args, kwargs)

    def decided(self, args: Any, kwargs: Any) -> bool:
        """Whether all tensors of truth values and indices are the graph's own, hence known."""
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        known = [id(t) in self.given for t in tensors if not t.is_floating_point()]
        return bool(known) and all(known)

    def run_on_zeros(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Calls a function on zeros of the inputs' shapes and returns fakes of the result.

        The program's own masks and indices are not zero.
        """

        def value(fake: torch.Tensor) -> torch.Tensor:
            known = None if fake.is_floating_point() else self.given.get(id(fake))
            return _zeros(fake) if known is None else known

        args, kwargs = pytree.tree_map_only(torch.Tensor, value, (args, kwargs))
        with keep_random_state(devices=(self.home,)), self.call_context():
            result = function(*args, **kwargs)
        return pytree.tree_map_only(torch.Tensor, self.fake, result)

    def shell(self, leaf: nn.Module) -> nn.Module:
        """Copies a module, with fakes for its tensors."""
        tensors = _tensors(leaf)
        if not tensors and not _opaque(leaf) and not leaf._forward_pre_hooks:
            return leaf  # nothing that a forward could write to, and the copy takes time
        for tensor in tensors:
            self.fake(tensor)
        shell = copy.deepcopy(leaf, self.memo)
        # In training mode a BatchNorm refuses one value per channel and a spectral_norm iterates;
        # neither changes a shape, so modules run in inference, but for those of `_FUSED`.
        for module in shell.modules():
            if is_known(module):
                module.training = isinstance(module, _FUSED)
        return shell

    def fake(self, tensor: torch.Tensor) -> Any:
        """Returns the fake of a tensor, one for each."""
        if id(tensor) not in self.memo:
            self.memo[id(tensor)] = fake_of(self.mode, tensor, self.home)
            self.kept.append(tensor)
        return self.memo[id(tensor)]


def leaf_results(source: object) -> dict[Any, Any]:
    """Returns the cached results of leaves in programs of the same provenance.

    Copies of a program share its provenance; the cache lives as long as it does.
    """
    return _LEAF_RESULTS.setdefault(source, {})


def _aliases(result: torch.Tensor, args: tuple[Any, ...]) -> bool:
    """Whether a result shares the memory of an input: a view, or the input written in place."""
    storage = result.untyped_storage()._cdata
    return any(x.untyped_storage()._cdata == storage for x in args)


def _cache_key(leaf: nn.Module, args: tuple[Any, ...]) -> Any:
    """Returns a key that equal leaves on equal inputs share; None if that is not certain.

    Such leaves give results of the same shape, so only one of them has to run.
    """
    plain = type(leaf).__module__.startswith("torch.nn.modules") or is_own(leaf)
    if not plain or leaf._modules or leaf._forward_pre_hooks or leaf._forward_hooks:
        return None
    if not all(isinstance(x, torch.Tensor) for x in args):
        return None
    if any(isinstance(n, torch.SymInt) for x in args for n in x.shape):
        return None  # a formula is no key
    held = [(n, t) for group in (leaf._parameters, leaf._buffers) for n, t in group.items()]
    tensors = [(n, t.shape, t.dtype, t.device) for n, t in held if t is not None]
    inputs = [(x.shape, x.stride(), x.dtype, x.device) for x in args]
    return (type(leaf), leaf.extra_repr(), leaf.training, tuple(tensors), tuple(inputs))


def _home(module: nn.Module, inputs: tuple[Any, ...]) -> torch.device:
    """Finds the device that tensors on the meta device stand for: where the others are."""
    held = (tensor for m in module.modules() for tensor in _held(vars(m)))
    tensors = itertools.chain(pytree.tree_leaves(inputs), held)
    devices = (t.device for t in tensors if isinstance(t, torch.Tensor) and not t.is_meta)
    return next(devices, torch.device("cpu"))


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    """Lists all that a module holds: parameters, buffers, and tensors in attributes."""
    return [tensor for m in module.modules() for tensor in _held(vars(m))]


def _held(value: Any) -> Iterator[torch.Tensor]:
    """Iterates over the tensors in nested dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif value and isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _held(item)


def _opaque(leaf: nn.Module) -> bool:
    """Whether the code of a module is neither torch's alone nor gfx's."""
    return not all(map(is_known, leaf.modules()))


def _looks_at_values(error: Exception, name: str) -> bool:
    """Whether a call failed because it looks at values that do not decide its shape."""
    from torch._subclasses.fake_tensor import DataDependentOutputException as Value
    from torch._subclasses.fake_tensor import DynamicOutputShapeException as Shape

    return isinstance(error, Value) or (isinstance(error, Shape) and "loss" in name.lower())


def _zeros(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _what(node: fx.Node, module: nn.Module) -> str:
    """Says what a node calls: ` (Conv2d[model.0])`."""
    if node.op != "call_module":
        return ""
    return f" ({type(module.get_submodule(str(node.target))).__name__}[{node.target}])"


def _shape(value: Any) -> str:
    return "x".join(map(str, value.shape)) if isinstance(value, torch.Tensor) else repr(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
