"""Reads recipes: the passes to apply to a model, as a YAML file, a dict or a Recipe.

    recipe: 1
    about: half the MACs of a ResNet generator
    input: [1, 3, 256, 256]
    budget: {macs: 0.5}
    seed: 0
    passes:
      - fuse_batch_norm
      - channel_prune: {importance: l1, round_to: 8, keep: [to_rgb]}

1. The keys of a pass are its dataclass fields, checked against their annotations.
2. A bare name is the pass with its defaults.
3. `Recipe.load(recipe.spec()) == recipe` for every recipe.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_type_hints

import torch

from gfx.contract import Pass
from gfx.costs import check_spec
from gfx.errors import RecipeError, RegistryError, did_you_mean, require_seed
from gfx.io.guards import printable, reason, unreachable
from gfx.io.plain_data import coerce, plain, shown
from gfx.io.shipped_recipes import recipes_folder, shipped, shipped_systems
from gfx.io.yaml_text import LONGEST, dump, parse
from gfx.ir.ambient_modes import shielded
from gfx.pipeline.registry import get

__all__ = [
    "InputSpec",
    "Recipe",
    "build_pass",
    "input_specs",
    "read_text",
    "shipped",
]

VERSION = 1
_DIMENSIONS, _ELEMENTS = 16, 2**30  # of an input: a batch of 1 is 18,900 pixels a side

Source = Union[str, Path, Mapping[str, Any], "Recipe"]


@shielded
@dataclass(frozen=True)
class InputSpec:
    """The shape of one model input, and its dtype where it is not the model's.

    Example:
        >>> InputSpec((1, 2)).tensor(torch.float64, torch.device("cpu"))
        tensor([[0., 0.]], dtype=torch.float64)
    """

    shape: tuple[int, ...]
    dtype: str | None = None  # "int64", ...; None: the model's

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise RecipeError(f"shape {shown(list(self.shape))} has a size below 1")
        if len(self.shape) > _DIMENSIONS or math.prod(self.shape) > _ELEMENTS:
            raise RecipeError(
                f"shape {shown(list(self.shape))} has {len(self.shape)} dimensions and "
                f"{shown(math.prod(self.shape))} values; an input has at most {_DIMENSIONS} and "
                f"{_ELEMENTS:,}"
            )
        if self.dtype is not None and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise RecipeError(f"{shown(self.dtype)} is no dtype of torch, such as float32 or int64")
        if self.dtype is not None and not _fills(getattr(torch, self.dtype)):
            raise RecipeError(
                f"torch makes no plain tensors of {self.dtype}; give float32 or int64"
            )

    def tensor(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Builds zeros of this shape; `dtype` and `device` are the model's."""
        own = dtype if self.dtype is None else getattr(torch, self.dtype)
        try:
            return torch.zeros(self.shape, dtype=own, device=device)
        except (RuntimeError, MemoryError) as error:  # torch's allocator raises the former
            raise RecipeError(
                f"an input of shape {list(self.shape)} does not fit into memory; give a smaller one"
            ) from error


def _fills(dtype: torch.dtype) -> bool:
    """Whether torch makes tensors of a dtype; not of quantized and packed ones."""
    try:
        torch.zeros(1, dtype=dtype)
    except Exception:  # of several kinds
        return False
    return True


@shielded
@dataclass(frozen=True)
class Recipe:
    """The passes to apply to a model, with their budget, seed and inputs.

    Example:
        >>> recipe = Recipe.load({"passes": ["fuse_batch_norm"], "budget": {"macs": 0.5}})
        >>> recipe.budget, [p.name for p in recipe.passes]
        ({'macs': 0.5}, ['fuse_batch_norm'])
    """

    recipe: int = VERSION
    about: str = ""
    input: tuple[InputSpec, ...] | None = None  # None: inferred from the model
    budget: dict[str, Any] | None = None  # read by gfx.costs.parse_budget
    seed: int | None = None  # None: 0
    passes: tuple[Pass, ...] = ()

    def __post_init__(self) -> None:
        if self.recipe != VERSION:
            raise RecipeError(f"recipe version {self.recipe} is unknown; this gfx reads {VERSION}")
        if self.seed is not None:
            require_seed(self.seed)
        check_spec(self.budget)

    @staticmethod
    def load(source: Source) -> "Recipe":
        """Reads a path, the name of a shipped recipe, a dict, or a Recipe.

        Raises: RecipeError that says where, what was found and what was expected.

        Example:
            >>> Recipe.load("hlaf")
            Traceback (most recent call last):
            gfx.errors.RecipeError: unknown recipe 'hlaf'; did you mean 'half'?
        """
        if isinstance(source, Recipe):
            return source
        if isinstance(source, Mapping):
            return _from_dict(source, "recipe")
        if not isinstance(source, str | Path):
            raise RecipeError(
                "a recipe is a path, the name of a shipped recipe, a dict or a Recipe, "
                f"not {type(source).__name__}"
            )
        if isinstance(source, str) and source in shipped_systems():
            raise RecipeError(_trains(source))
        if isinstance(source, str) and source in shipped():
            text, origin = (recipes_folder() / f"{source}.yaml").read_text("utf-8"), source
        else:
            text, origin = read_text(source, shipped())
        return _from_dict(parse(text, origin), origin)

    def spec(self) -> dict[str, Any]:
        """Returns the recipe as plain data with every default written out (rule 3).

        Example:
            >>> Recipe(seed=1).spec()["seed"]
            1
        """
        fields = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {**fields, "passes": [plain(pass_.spec()) for pass_ in self.passes]}

    def to_yaml(self) -> str:
        """Writes the recipe as YAML that `load` reads back.

        Example:
            >>> print(Recipe().to_yaml().splitlines()[0])
            recipe: 1
        """
        return dump(self.spec())


def build_pass(kind: type[Pass], fields: Mapping[str, Any], where: str = "recipe") -> Pass:
    """Builds a pass from plain data (rule 1); `where` begins the messages.

    Raises: RecipeError naming the field, what was expected and what was found.

    Example:
        >>> from passes.fuse_batch_norm import FuseBatchNorm
        >>> build_pass(FuseBatchNorm, {"targets": "up.*"})
        FuseBatchNorm(targets=('up.*',))
    """
    where = f"{where} {kind.name}"
    known = [f.name for f in dataclasses.fields(kind) if f.init]
    for key in fields:
        if key not in known:
            raise RecipeError(f"{where}: unknown field {shown(key)}{did_you_mean(key, known)}")
    hints = get_type_hints(kind)
    values = {k: _field(v, hints[k], f"{where}: {k}") for k, v in fields.items()}
    missing = [f.name for f in dataclasses.fields(kind) if _required(f) and f.name not in values]
    if missing:
        raise RecipeError(f"{where}: field {missing[0]!r} has no default and is not given")
    try:
        return kind(**values)
    except RecipeError as error:
        raise RecipeError(f"{where.removesuffix(kind.name)}{error}") from error
    except Exception as error:  # anyone's __post_init__
        raise RecipeError(
            f"{where}: {kind.__module__}.{kind.__qualname__} does not take these fields: "
            f"{type(error).__name__}: {error}"
        ) from error


def read_text(source: str | Path, known: Iterable[str]) -> tuple[str, str]:
    """Returns the text of a recipe's file, and its name in messages; `known` are those that ship.

    Raises: RecipeError if there is no such file, or it is no text.
    """
    path, said = Path(source), printable(source)
    try:
        plain_file = path.is_file()
        if path.suffix not in (".yaml", ".yml") and not plain_file:
            raise RecipeError(f"unknown recipe {shown(str(source))}{did_you_mean(source, known)}")
        if path.exists() and not plain_file:  # a pipe would keep us waiting
            raise RecipeError(f"recipe file {said} is no file; name one")
        with path.open("rb") as file:
            text = file.read(LONGEST + 1).decode("utf-8")
    except FileNotFoundError as error:
        why = unreachable(path, error).partition(";")[0]
        raise RecipeError(f"recipe file {said} {why}") from error
    except (OSError, ValueError) as error:  # a circle of links, too long a name, no UTF-8
        raise RecipeError(f"recipe file {said} cannot be read as text: {reason(error)}") from error
    return text, said


def _trains(origin: str) -> str:
    return (
        f"{origin}: has `stages`: it trains; run it by gfx.compress, in the shell by `gfx compress`"
    )


def _from_dict(data: Any, origin: str) -> Recipe:
    if not isinstance(data, Mapping):
        raise RecipeError(f"{origin}: a recipe is a mapping with `passes`, not {_kind(data)}")
    if "passes" not in data and "stages" in data:
        raise RecipeError(_trains(origin))
    hints = get_type_hints(Recipe)
    for key in data:
        if key not in hints:
            raise RecipeError(f"{origin}: unknown key {shown(key)}{did_you_mean(key, hints)}")
    if "passes" not in data:
        raise RecipeError(f"{origin}: has no `passes`; list at least one, or [] for none")
    values = dict(data)
    entries = values.pop("passes")
    if not isinstance(entries, list | tuple):
        raise RecipeError(f"{origin}: passes is a list of passes, not {_kind(entries)}")
    if "input" in values:
        values["input"] = input_specs(values["input"], origin)
    for key, value in values.items():
        values[key] = _field(value, hints[key], f"{origin}: {key}")
    passes = tuple(_pass(e, f"{origin}: passes[{i}]") for i, e in enumerate(entries))
    try:
        return Recipe(passes=passes, **values)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from error


def input_specs(value: Any, origin: str) -> Any:
    """Normalises the three spellings of `input` to a list of {shape, dtype}."""
    if value is None:
        return None
    single = isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and bool(value) and isinstance(value[0], int)
    )
    entries = [value] if single else value
    if not isinstance(entries, list | tuple) or not entries:
        raise RecipeError(
            f"{origin}: input is a shape such as [1, 3, 256, 256], a list of shapes, or a list of "
            f"{{shape, dtype}}, not {shown(value)}"
        )
    return [e if isinstance(e, Mapping | InputSpec) else {"shape": e} for e in entries]


def _pass(entry: Any, where: str) -> Pass:
    """Reads one pass: a Pass, a name, or {name: {field: value}} (rules 1 and 2)."""
    if isinstance(entry, Pass):
        return entry
    name, fields = _entry(entry, where)
    try:
        kind = get(name)
    except RegistryError as error:
        raise RecipeError(f"{where}: {error}") from error
    return build_pass(kind, fields, where)


def _entry(entry: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if not isinstance(entry, Mapping):
        raise RecipeError(
            f"{where}: a pass is a name or {{name: {{field: value}}}}, not {shown(entry)}"
        )
    if len(entry) != 1:
        raise RecipeError(
            f"{where}: one pass is expected, {shown(list(entry))} are given; indent its fields "
            "under it"
        )
    name, fields = next(iter(entry.items()))
    fields = {} if fields is None else fields
    if not isinstance(fields, Mapping):
        raise RecipeError(f"{where} {name}: its fields are a mapping, not {shown(fields)}")
    return str(name), fields


def _field(value: Any, kind: Any, where: str) -> Any:
    try:
        return coerce(value, kind)
    except (TypeError, RecipeError) as error:
        raise RecipeError(f"{where}: {error}") from error


def _required(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.init and field.default is missing and field.default_factory is missing


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {shown(value)}"
