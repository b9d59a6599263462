"""Makes a supernet of any generator."""

from typing import Any, cast

from torch import fx, nn

from gfx.compression.elastic import FormChoices, check_skip, write_choices
from gfx.compression.importance import Importance
from gfx.compression.selection.width_choices import SUPERNET, Ties, WidthChoices, require_choice
from gfx.coupling import Groups, analyse
from gfx.errors import InputError, PreconditionError, VerificationError
from gfx.frontend import trace
from gfx.io.archive import ModelPath, as_module
from gfx.ir.choice_nodes import choices_of
from gfx.ir.execute import distance, draw, on_meta, run, tolerance
from gfx.ir.program import Program
from gfx.pipeline import apply
from gfx.progress import Progress, reported
from gfx.train.supernet.supernet_module import Supernet, planned

__all__ = ["supernet"]


@reported
def supernet(
    model: nn.Module | ModelPath,
    example_inputs: Any = None,
    *,
    widths: Any = None,
    forms: Any = None,
    skip: Any = False,
    order: Importance | None = "l1",
    data: Any = None,
    seed: int = 0,
    verify: bool = True,
    progress: Progress = False,
) -> Supernet:
    """Makes a supernet of a copy of any generator: a choice of widths for its channel groups.

    1. Parametrizations are folded, and channels are sorted by `order` (`sort_channels`), so that a
       subnet has the most important ones; None leaves them in their order.
    2. `widths` says which there are (`WidthChoices`): {"step": 8}, a list of shares or channels, or
       a list for each glob over modules; its `together` ties groups. By default multiples of 8 from
       a quarter of each group on.
    3. Groups that cannot be elastic stay whole; `kept_whole` says why.
    4. `forms` gives layers a choice between dense and separable: "separable" for all that the pass
       `decompose` would make cheaper, a list of layers, or fields (`FormChoices`). Separable layers
       begin as what `decompose` makes of the dense ones.
    5. `skip` lets residual blocks, x + f(x), be left out: True for all that are found, or globs
       over their names. `without_choice` says why a layer or a block has none.
    6. With `verify`, subnets are compared with the nets that are extracted of them.

    Args:
        model: a module, or a path that `gfx.open_model` opens; what `gfx.save` wrote of a supernet
            has the widths, forms and blocks that it had, and its order, if nothing else is said.
        example_inputs: a tensor, a tuple or a dict by name; None: inferred.
        widths: rule 2.
        forms: rule 4.
        skip: rule 5.
        order: rule 1.
        data: for orders and forms that look at it, as in `gfx.apply`.
        seed: of random numbers, if `order` or `forms` draw any.
        verify: rule 6.
        progress: as in `gfx.apply`.

    Raises: PreconditionError if there is nothing to choose; RecipeError if `widths`, `forms` or
        `skip` cannot be read; VerificationError if a subnet is not what is extracted.

    Example:
        >>> import gfx
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths={"step": 16})
        >>> net.widths["up.0.conv"], net.kept_whole["to_rgb"]
        ((16, 32), "its channels are the model's output")
    """
    asked, asked_forms = WidthChoices.read(widths), FormChoices.read(forms)
    check_skip(skip)
    opened = as_module(model)
    known = getattr(opened, "meta", {}).get(SUPERNET) if widths is None else None
    order = None if known else order
    traced = trace(opened, example_inputs)
    passes: list[Any] = ["fold_parametrizations"]
    if order is not None:
        passes.append({"sort_channels": {"importance": order}})
    recipe = {"seed": seed, "passes": passes}
    inputs = traced.example_inputs
    sorted_ = apply(recipe, traced.module, inputs, data=data, verify=verify)
    program = Program(sorted_, inputs, traced.provenance)
    written = write_choices(program, asked_forms, skip, data=data, seed=seed)
    groups = analyse(program)
    choices, kept_whole = asked.of(groups)
    ties = asked.tied(groups, choices)
    if known:
        choices, ties = _saved(groups, known)
        kept_whole |= {g.name: "it was kept whole" for g in groups.free if g.name not in choices}
    if not choices_of(program.module):
        require_choice(choices, kept_whole)
    net = planned(program, choices, kept_whole, ties, written.without)
    if not net.choices:
        (name, why), *_ = net.kept_whole.items()
        raise PreconditionError(f"no group can be elastic: {name}: {why}")
    if verify and not on_meta(program):
        _verify(net, seed)
    return net


def _saved(groups: Groups, known: Any) -> tuple[dict[str, tuple[int, ...]], Ties]:
    """Checks the widths that a file gives, and which of them are chosen together.

    Raises: InputError if they are not of this net.
    """
    full = {group.name: (group.width, group.takes[0]) for group in groups.free}
    given = known.get("widths") if isinstance(known, dict) else None
    found: dict[str, tuple[int, ...]] = {}
    for name, values in given.items() if isinstance(given, dict) else [("a supernet", None)]:
        width, each = full.get(name, (0, 1))
        widths = list(values) if isinstance(values, list) else []
        whole = all(type(n) is int and n > 0 and n % each == 0 for n in widths)
        if not (whole and widths and widths[-1] == width and sorted({*widths}) == widths):
            raise InputError(f"the file's widths of {name} are not of this net; give widths=")
        found[name] = tuple(widths)
    ties = known.get("together", [])
    names = [name for tie in ties if isinstance(tie, list) for name in tie if name in found]
    if (
        not isinstance(ties, list)
        or len(names) != sum(len(tie) for tie in ties if isinstance(tie, list))
        or len({*names}) != len(names)
        or any(len({len(found[name]) for name in tie}) != 1 for tie in ties)
    ):
        raise InputError("the file ties widths that are not of this net; give widths=")
    return found, tuple(map(tuple, ties))


def _verify(net: Supernet, seed: int) -> None:
    """Compares subnets with what is extracted, on inputs that are drawn."""
    program = net.program
    inputs = draw(program)
    for each in (net.largest(), net.smallest(), net.sample(seed, 0)):
        net.set(each)
        wanted = run(Program(net.extract(), inputs), inputs)
        error = distance(wanted, run(Program(cast(fx.GraphModule, net), inputs), inputs))
        if error > tolerance(program):
            raise VerificationError(
                f"the subnet of {each} differs from what is extracted by {error:.3g} of the "
                "largest output; please report this model as a bug"
            )
    net.set()
