"""Folds spectral norm, weight norm and every other parametrization into plain weights.

Before   conv with weight_orig, weight_u, weight_v (or weight_g, weight_v; or parametrizations)
After    conv with weight, of the value it has in eval mode
Source   Miyato et al. 2018, arXiv:1802.05957, section 3.2 (the norm is constant at inference);
         Salimans and Kingma 2016, arXiv:1602.07868, equation 2.
"""

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfx.contract import Keeps, Outcome, Pass
from gfx.program import Program

__all__ = ["FoldParametrizations"]

_PARTS = {SpectralNorm: ("_orig", "_u", "_v"), WeightNorm: ("_g", "_v")}


@dataclass(frozen=True)
class FoldParametrizations(Pass):
    """Folds parametrized tensors into plain ones, under the same name.

    1. The value is the one of eval mode: no power iteration, no noise.
    2. A module one of whose originals serves another place is skipped: they would part.
    3. A hook that gfx does not know is skipped: what it does is not known.
    4. Inside an opaque leaf nothing is touched: its code may read the parts.

    Shapes: every tensor keeps its own; `requires_grad` is that of the originals.
    Cost: no layer costs more to run; u, v, g and the like are gone.

    Example:
        >>> import gfx
        >>> model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)))
        >>> plain = gfx.apply({"passes": ["fold_parametrizations"]}, model, torch.zeros(1, 4))
        >>> [name for name, _ in plain.named_parameters()]
        ['0.weight', '0.bias']
    """

    name: ClassVar[str] = "fold_parametrizations"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the paths of the modules that own the tensors

    def apply(self, program: Program) -> Outcome:
        """Folds every tensor that the rules allow."""
        outcome = Outcome()
        note = "; it no longer acts in training" if program.training else ""
        owners = _owners(program)
        for path, module in list(program.module.named_modules()):
            for hook in _unknown(module):
                outcome.skip(path, f"gfx does not know how to fold its pre-hook {hook}")  # rule 3
            computed = _computed(module)
            if not computed:
                continue
            why = self._refusal(program, path, computed, owners)
            if why:
                outcome.skip(path, why)
                continue
            _fold(module)
            for name, (kind, _) in computed.items():
                _read_plainly(program, path, name)
                outcome.change(path, f"{name}: {kind} folded into a plain tensor{note}")
        program.recompile()
        return outcome

    def _refusal(
        self, program: Program, path: str, computed: "_Computed", owners: Counter[int]
    ) -> str:
        """Says why a module's tensors cannot be folded; "" if they can."""
        if not any(fnmatchcase(path, target) for target in self.targets):
            return f"not in targets {', '.join(self.targets)}"
        leaf = _opaque(program, path)
        if leaf:  # rule 4
            return f"inside the opaque leaf {leaf}, whose code may read the parts"
        for name, (kind, originals) in computed.items():
            if any(owners[id(tensor)] > 1 for tensor in originals):  # rule 2
                return f"the {kind} of {name} uses a tensor that another place uses too"
        return ""


_Computed = dict[str, tuple[str, list[torch.Tensor]]]  # tensor name → what computes it, from what


def _computed(module: nn.Module) -> _Computed:
    """Maps each tensor that a module computes before it runs to its kind and its originals."""
    found: _Computed = {}
    for hook in _hooks(module).values():
        parts = [getattr(module, f"{hook.name}{suffix}") for suffix in _PARTS[type(hook)]]
        kind = "spectral_norm" if isinstance(hook, SpectralNorm) else "weight_norm"
        found[hook.name] = (kind, parts)
    for name, steps in _lists(module).items():
        kinds = [type(step).__name__.lstrip("_") for step in steps]
        found[name] = (", ".join(kinds), [*steps.parameters(), *steps.buffers()])
    return found


def _hooks(module: nn.Module) -> dict[int, Any]:
    """Returns the old-style norms of a module."""
    return {k: h for k, h in module._forward_pre_hooks.items() if type(h) in _PARTS}


def _unknown(module: nn.Module) -> list[str]:
    hooks = [h for h in module._forward_pre_hooks.values() if type(h) not in _PARTS]
    return [getattr(hook, "__name__", type(hook).__name__) for hook in hooks]


def _lists(module: nn.Module) -> dict[str, ParametrizationList]:
    """Returns the parametrizations of a module.

    A module that is never called, only read, is a bare container in the graph: it has them too.
    """
    box = module._modules.get("parametrizations")
    if box is None:
        return {}
    return {n: child for n, child in box.named_children() if isinstance(child, ParametrizationList)}


def _owners(program: Program) -> Counter[int]:
    """Counts the places that hold each tensor, and the nodes that read it by name."""
    owners: Counter[int] = Counter()
    for module in program.module.modules():  # each once, under however many paths
        tensors = [*module._parameters.values(), *module._buffers.values()]
        owners.update(id(t) for t in tensors if t is not None)
    reads = {str(node.target) for node in program.nodes() if node.op == "get_attr"}
    named: dict[str, torch.Tensor] = {
        **dict(program.module.named_parameters(remove_duplicate=False)),
        **dict(program.module.named_buffers(remove_duplicate=False)),
    }
    owners.update(id(named[path]) for path in reads if path in named)
    return owners


def _opaque(program: Program, path: str) -> str:
    """Returns the opaque leaf that a path is inside of; "" if there is none."""
    leaves = {str(node.target) for node in program.nodes() if node.op == "call_module"}
    parts = path.split(".")
    for leaf in (".".join(parts[:i]) for i in range(1, len(parts) + 1)):
        if leaf in leaves and not _is_torch(program.module.get_submodule(leaf)):
            return leaf
    return ""


def _is_torch(module: nn.Module) -> bool:
    # a parametrized module has a class of its own, made from the one it had before
    kind = type(module).__bases__[0] if is_parametrized(module) else type(module)
    return kind.__module__.startswith("torch.nn.")


@torch.no_grad()
def _fold(module: nn.Module) -> None:
    """Replaces every computed tensor of a module by its eval-mode value (rule 1)."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    for key, hook in _hooks(module).items():
        parts = [getattr(module, f"{hook.name}{suffix}") for suffix in _PARTS[type(hook)]]
        eval_mode = {"do_power_iteration": False} if isinstance(hook, SpectralNorm) else {}
        value = hook.compute_weight(module, **eval_mode)
        _drop_hook(module, key, hook)
        _store(module, hook.name, value, parts)
    values = {name: (steps(), steps) for name, steps in _lists(module).items()}
    if values:
        # not remove_parametrizations: it deletes the property from the class, which the user's own
        # module, of which this one is a copy, shares
        del module._modules["parametrizations"]
        if isinstance(getattr(type(module), next(iter(values)), None), property):
            module.__class__ = type(module).__bases__[0]
    for name, (value, steps) in values.items():
        _store(module, name, value, [*steps.parameters()])
    for owner, mode in modes:
        owner.training = mode


def _store(
    module: nn.Module, name: str, value: torch.Tensor, originals: list[torch.Tensor]
) -> None:
    """Registers a tensor as what its originals were, before the other parameters."""
    value = value.detach().clone()
    if not any(isinstance(tensor, nn.Parameter) for tensor in originals):
        module.register_buffer(name, value)
        return
    grad = any(tensor.requires_grad for tensor in originals)
    others = dict(module._parameters)
    module._parameters.clear()
    module.register_parameter(name, nn.Parameter(value, requires_grad=grad))
    module._parameters.update(others)


def _drop_hook(module: nn.Module, key: int, hook: Any) -> None:
    """Removes an old-style norm with everything it left on the module."""
    del module._forward_pre_hooks[key]
    module.__dict__.pop(hook.name, None)
    for suffix in _PARTS[type(hook)]:
        delattr(module, f"{hook.name}{suffix}")
    for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for other_key, wrapped in list(hooks.items()):
            other = getattr(wrapped, "hook", wrapped)
            if getattr(getattr(other, "fn", None), "name", None) == hook.name:
                del hooks[other_key]


def _read_plainly(program: Program, path: str, name: str) -> None:
    """Lets nodes that call a parametrization (`self.conv.weight` in a forward) read the tensor."""
    target = ".".join(part for part in (path, "parametrizations", name) if part)
    for node in program.nodes():
        if node.op == "call_module" and node.target == target:
            with program.graph.inserting_before(node):
                plain = program.graph.get_attr(f"{path}.{name}".lstrip("."))
            node.replace_all_uses_with(plain)
            program.graph.erase_node(node)
