"""Says which widths and forms a supernet may have that is trained next.

Before   y = f(x)
After    y = f(x)          and the program keeps the widths of its groups; where layers may be
                           separable, or blocks skipped, it has both, and takes what was there
Source   Li et al. 2020, arXiv:2003.08936 (GAN Compression), section 3.3 and appendix 6.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gfx.compression.elastic import FormChoices, check_skip, write_choices
from gfx.compression.selection.width_choices import SUPERNET, Values, WidthChoices, require_choice
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.coupling import analyse
from gfx.errors import prefixed
from gfx.ir.choice_nodes import choices_of
from gfx.ir.program import Program

__all__ = ["Widths"]


@dataclass(frozen=True)
class Widths(Pass):
    """Notes in the program which widths its groups may have.

    `gfx.supernet` and the `sample:` of a stage make a supernet of it; `gfx.save` writes the widths
    too. A subnet has the first channels of each group: sort them first, by `sort_channels`.

    1. By default a group may have every multiple of `step` from the share `at_least` of it on, and
       all of its channels.
    2. `values` lists widths instead, in channels or shares, by glob over modules.
    3. `together` lists globs of groups that are chosen together: the k-th width of one is the k-th
       of all.
    4. `forms` gives layers a choice between dense and separable: `separable` for all that
       `decompose` would make cheaper, a list of layers, or its fields `where`, `keep`, `rank`,
       `norm` and `init`.
    5. `skip` lets residual blocks be left out: true for all that are found, or globs over their
       names.

    Shapes: all stay.
    Cost: separable layers are there beside the dense ones, until a subnet is extracted.
    Raises: PreconditionError if nothing has a choice, or if data is needed and missing.

    Example:
        >>> import gfx
        >>> recipe = {"passes": ["sort_channels", {"widths": {"values": {"*": [0.5, 1.0]}}}]}
        >>> gfx.supernet(gfx.apply(recipe, gfx.zoo.build("dcgan", ngf=8))).widths["up.0.conv"]
        (16, 32)
    """

    name: ClassVar[str] = "widths"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    step: int = 8  # channels
    at_least: float = 0.25  # share of a group, 0 ≤ at_least ≤ 1
    min_channels: int = 4  # a group keeps at least as many, or all of its own
    values: Mapping[str, Values] = field(default_factory=dict)  # glob: widths, in place of rule 1
    together: tuple[tuple[str, ...], ...] = ()  # globs over modules
    forms: object = None  # rule 4
    skip: object = False  # rule 5
    seed: int | None = None  # of forms that are drawn at random; None: the recipe's

    def __post_init__(self) -> None:
        self._choices()
        with prefixed(self.name):
            FormChoices.read(self.forms)
            check_skip(self.skip)
        if self.forms is not None:  # separable layers come beside the dense ones
            object.__setattr__(self, "grows", True)

    @property
    def needs_data(self) -> bool:
        """Whether separable layers are fitted to data."""
        forms = FormChoices.read(self.forms)
        return forms is not None and forms.init == "data"

    def _choices(self) -> WidthChoices:
        return WidthChoices.read(
            {
                "step": self.step,
                "at_least": self.at_least,
                "min_channels": self.min_channels,
                "values": self.values,
                "together": self.together,
            }
        )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Notes the widths, writes the choices, and reports both."""
        outcome, given = Outcome(), context.of(self)
        with prefixed(self.name):
            forms = FormChoices.read(self.forms)
            written = write_choices(program, forms, self.skip, data=given.data, seed=given.seed)
        for name, each in written.choices.items():
            outcome.change(name, "choice", None, list(each))
        groups = analyse(program)
        found, kept_whole = self._choices().of(groups)
        if not choices_of(program.module):
            with prefixed(self.name):
                require_choice(found, kept_whole)
        without = {**kept_whole, **written.without}
        outcome.skips += [Skip(name, why) for name, why in without.items()]
        ties = self._choices().tied(groups, found)
        noted = {name: list(widths) for name, widths in found.items()}
        program.module.meta[SUPERNET] = {"widths": noted, "together": [list(t) for t in ties]}
        outcome.details["widths"] = noted
        if written.choices:
            options = {name: list(each) for name, each in written.choices.items()}
            outcome.details["choices"] = options
        return outcome
