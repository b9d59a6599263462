"""Folds spectral norm, weight norm and every other parametrization into plain weights.

Before   conv with weight_orig, weight_u, weight_v (or weight_g, weight_v; or parametrizations)
After    conv with weight, of the value it has in eval mode
Source   Miyato et al. 2018, arXiv:1802.05957, section 3.2 (the norm is constant at inference);
         Salimans and Kingma 2016, arXiv:1602.07868, equation 2.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.modules import OWN
from gfx.ir.parametrizations import Chain, chains, evaluate, read_plainly
from gfx.ir.program import Program

__all__ = ["FoldParametrizations"]

_PARTS = {SpectralNorm: ("_orig", "_u", "_v"), WeightNorm: ("_g", "_v")}


@dataclass(frozen=True)
class FoldParametrizations(Pass):
    """Folds parametrized tensors into plain ones, under the same name.

    1. The value is the one of eval mode: no power iteration, no noise.
    2. A module one of whose originals serves another place is skipped: they would part.
    3. A hook that gfx does not know is skipped: what it does is not known.
    4. Inside an opaque leaf nothing is touched: its code may read the parts.
    5. Where the graph spells a parametrization out, its result is folded, if it has a single one.

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

    def apply(self, program: Program, context: Context) -> Outcome:
        """Folds every tensor that the rules allow."""
        outcome = Outcome()
        note = "; it no longer acts in training" if program.training else ""
        view = _View(program)
        for path, module in list(program.module.named_modules()):
            for hook in _unknown(module):
                outcome.skip(path, f"gfx does not know how to fold its pre-hook {hook}")  # rule 3
            computed = _computed(module)
            if not computed:
                continue
            why = self._refusal(view, path, computed)
            if why:
                outcome.skip(path, why)
                continue
            _fold(module)
            for name, (kind, _) in computed.items():
                chain = view.spelled.pop(_join(path, name), None)
                if chain:
                    read_plainly(program, chain)
                outcome.change(path, f"{name}: {kind} folded into a plain tensor{note}")
        for chain in view.spelled.values():
            self._fold_chain(program, chain, outcome, note)
        program.recompile()
        return outcome

    def _fold_chain(self, program: Program, chain: Chain, outcome: Outcome, note: str) -> None:
        """Folds a tensor whose parametrization the graph itself spells out (rule 5)."""
        owner = program.module.get_submodule(chain.owner)
        if not self.named(chain.owner):
            outcome.skip(chain.path, f"not in targets {', '.join(self.targets)}")
        elif is_parametrized(owner) or len(chain.ends) != 1 or not chain.ends[0].users:
            outcome.skip(chain.path, "the graph uses the parts of its parametrization")
        else:
            originals = [_tensors(program)[str(n.target)] for n in chain.sources]
            _store(owner, chain.name, evaluate(program, chain.ends[0]), originals)
            read_plainly(program, chain)
            outcome.change(chain.path, f"parametrization folded into a plain tensor{note}")

    def _refusal(self, view: "_View", path: str, computed: "_Computed") -> str:
        """Says why a module's tensors cannot be folded; "" if they can."""
        if not self.named(path):
            return f"not in targets {', '.join(self.targets)}"
        leaf = _opaque(view.program, path)
        if leaf:  # rule 4
            return f"inside the opaque leaf {leaf}, whose code may read the parts"
        for name, (kind, originals) in computed.items():
            if any(view.owners[id(tensor)] > 1 for tensor in originals):  # rule 2
                return f"the {kind} of {name} uses a tensor that another place uses too"
            if not view.reads_result(path, name):  # rule 5
                return f"the graph uses the parts of the {kind} of {name}"
        return ""


class _View:
    """What a program looks like before anything is folded."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.owners = _owners(program)
        self.spelled = {chain.path: chain for chain in chains(program)}

    def reads_result(self, path: str, name: str) -> bool:
        """Whether the graph reads a computed tensor itself, if it spells it out at all."""
        chain = self.spelled.get(_join(path, name))
        if chain is None:
            return True
        module = self.program.module.get_submodule(path)
        if len(chain.ends) != 1 or not is_parametrized(module):
            return len(chain.ends) == 1
        return torch.equal(evaluate(self.program, chain.ends[0]), _values(module)[name])


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
    named = _tensors(program)
    reads = {str(node.target) for node in program.nodes() if node.op == "get_attr"}
    # what reads the parts of a parametrization is a chain: it will read the folded tensor
    reads -= {str(node.target) for chain in chains(program) for node in chain.sources}
    owners.update(id(named[path]) for path in reads if path in named)
    return owners


def _tensors(program: Program) -> dict[str, torch.Tensor]:
    parameters = program.module.named_parameters(remove_duplicate=False)
    buffers = program.module.named_buffers(remove_duplicate=False)
    return {**dict(parameters), **dict(buffers)}


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
    return kind in OWN or kind.__module__.startswith("torch.nn.")


@torch.no_grad()
def _values(module: nn.Module) -> dict[str, torch.Tensor]:
    """Computes the tensors of a module as in eval mode (rule 1)."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    values: dict[str, torch.Tensor] = {}
    for hook in _hooks(module).values():
        eval_mode = {"do_power_iteration": False} if isinstance(hook, SpectralNorm) else {}
        values[hook.name] = hook.compute_weight(module, **eval_mode)
    values |= {name: steps() for name, steps in _lists(module).items()}
    for owner, mode in modes:
        owner.training = mode
    return values


def _fold(module: nn.Module) -> None:
    """Replaces every computed tensor of a module by its value."""
    computed, values = _computed(module), _values(module)
    for key, hook in _hooks(module).items():
        _drop_hook(module, key, hook)
    if _lists(module):
        # not remove_parametrizations: it deletes the property from the class, which the user's own
        # module, of which this one is a copy, shares
        if is_parametrized(module):
            module.__class__ = type(module).__bases__[0]
        del module._modules["parametrizations"]
    for name, value in values.items():
        _store(module, name, value, computed[name][1])


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


def _join(path: str, name: str) -> str:
    return f"{path}.{name}".lstrip(".")
