"""Writes choices into a program: forms of layers, and residual blocks that may be skipped.

Before   y = conv(x)                  Before   y = x + f(x)
After    y = choice(separable(x),     After    y = choice(x, x + f(x))
                    conv(x))

The last operand is taken until something else is said: the function stays what it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from gfx.compression.elastic.form_choices import FormChoices
from gfx.compression.elastic.skippable_blocks import skippable_blocks
from gfx.compression.factor import Form, check_data
from gfx.compression.factor.factor_layers import parts_of
from gfx.errors import InputError, RecipeError, did_you_mean
from gfx.io.data import batches_of
from gfx.io.plain_data import shown
from gfx.ir.choice_nodes import choices_of
from gfx.ir.globs import first_unmatched, matches
from gfx.ir.layers import Layer
from gfx.ir.memory_format import in_format_of
from gfx.ir.modules import ChoiceLayer
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["FORMS", "SKIPS", "WrittenChoices", "check_skip", "write_choices"]

FORMS = ("separable", "dense")  # the largest subnet takes the last
SKIPS = ("skipped", "kept")
_BATCHES, _ROUNDS = 8, 3


@dataclass(frozen=True)
class WrittenChoices:
    """Names what got a choice, and says why the rest has none."""

    choices: Mapping[str, tuple[str, ...]]  # by name: the options
    without: Mapping[str, str]  # layers and blocks: why


def write_choices(
    program: Program,
    forms: FormChoices | None = None,
    skip: Any = False,
    *,
    data: Any = None,
    seed: int = 0,
) -> WrittenChoices:
    """Writes choices into a program, in place.

    Args:
        program: its channels are in order.
        forms: which layers may be separable; None: none.
        skip: whether residual blocks may be skipped, or globs over their names.
        data: for separable layers that are fitted to what the dense ones read.
        seed: of separable layers that are drawn at random.

    Raises: RecipeError if a name names nothing; PreconditionError if data are needed and missing.

    Example:
        >>> import gfx
        >>> model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=1, image_size=16)
        >>> made = write_choices(gfx.trace(model), FormChoices(where=("blocks.*",)), True)
        >>> list(made.choices), made.without["to_rgb"]
        (['blocks.0.conv1.form', 'blocks.0.conv2.form', 'blocks.0.skip'], 'where does not name it')
    """
    check_skip(skip)
    propagate(program)
    without: dict[str, str] = {}
    known = {choice.name for choice in choices_of(program.module).values()}
    if forms is not None:
        check_data(forms.init, data)
        found, why = forms.of(program)
        without |= why
        batches = batches_of(program, data, _BATCHES) if found and forms.init == "data" else []
        _write_forms(program, found, batches, seed)
    if skip:
        without |= _write_skips(program, skip)
    program.recompile()
    propagate(program)
    now = choices_of(program.module).values()
    made = {choice.name: choice.options for choice in now if choice.name not in known}
    return WrittenChoices(made, without)


def check_skip(skip: Any) -> None:
    """Checks what says which blocks may be skipped.

    Raises: RecipeError if it is neither a truth value nor a list of globs.
    """
    listed = isinstance(skip, Sequence) and not isinstance(skip, str)
    if not isinstance(skip, bool) and not (listed and all(isinstance(s, str) for s in skip)):
        raise RecipeError(
            f"skip: true, false or a list of blocks is expected, such as [blocks.*], not "
            f"{shown(skip)}"
        )


def _write_forms(
    program: Program, forms: Mapping[Layer, Form], batches: Sequence[tuple[Any, ...]], seed: int
) -> None:
    made = parts_of(program, forms.items(), batches, seed, _ROUNDS)
    for layer, parts in zip(forms, made, strict=True):
        module, (node,) = layer.module, layer.calls
        parts.train(module.training)
        for part in parts.parameters():
            part.data = in_format_of(part.data, layer.convolution.weight)
        path = _free(program.module, f"{layer.path}_separable")
        program.module.add_submodule(path, parts)
        value, last = node.all_input_nodes[0], node  # behind it, which names the channels
        for name, _ in parts.named_children():
            with program.graph.inserting_after(last):
                last = value = program.graph.call_module(f"{path}.{name}", (value,))
        _choose(program, f"{layer.path}.form", FORMS, value, node)


def _write_skips(program: Program, skip: Any) -> dict[str, str]:
    blocks = skippable_blocks(program)
    names = [block.name for block in blocks]
    globs = ("*",) if skip is True else tuple(skip)
    unknown = first_unmatched(globs, names) if skip is not True else None
    if unknown is not None:
        there = did_you_mean(unknown, names) or f": {', '.join(names) or 'there is none'}"
        raise RecipeError(f"skip: no residual block is named {shown(unknown)}{there}")
    without: dict[str, str] = {}
    for block in blocks:
        if not matches(block.name, globs):
            without[block.name] = "skip does not name it"
        elif block.why_not:
            without[block.name] = block.why_not
        else:
            _choose(program, f"{block.name}.skip", SKIPS, block.operand, block.result)
    return without


def _choose(
    program: Program, name: str, options: tuple[str, ...], other: fx.Node, whole: fx.Node
) -> None:
    """Inserts a choice after a value, before all its readers."""
    # a group is named after its module, and a module may be called skip
    taken = {path for path, _ in program.module.named_modules()}
    taken |= {choice.name for choice in choices_of(program.module).values()}
    stem, count = name, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    layer = ChoiceLayer(name, options)
    layer.train(program.module.training)
    path = _free(program.module, name.rpartition(".")[0] + "_" + name.rpartition(".")[2])
    program.module.add_submodule(path, layer)
    behind = other if options == FORMS else whole
    with program.graph.inserting_after(behind):
        made = program.graph.call_module(path, (other, whole))
    whole.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)


def _free(module: nn.Module, path: str) -> str:
    """Returns a path at which a module has nothing yet.

    Raises: InputError if it lies in something that is no module.
    """
    owner, _, name = path.rpartition(".")
    try:
        held = module.get_submodule(owner) if owner else module
    except AttributeError as error:
        raise InputError(f"{path}: {error}") from error
    count, free = 1, name
    while hasattr(held, free):
        count += 1
        free = f"{name}_{count}"
    return f"{owner}.{free}" if owner else free
