"""Converts recipe text (YAML) to plain data and back; errors show the faulty line."""

import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from gfx.errors import RecipeError
from gfx.io.guards import printable, reading_recipe

__all__ = ["LONGEST", "dump", "one_line", "parse"]

LONGEST = 4 << 20  # bytes of a text that is read; the longest recipe that gfx writes has some kB
_SHOWN = 80  # characters of a faulty line
_MOST = 1_000_000  # values that a text stands for
_BITS = 1000  # of an integer; what is longer is no number of anything


class _Loader(yaml.SafeLoader):
    """Reads YAML as SafeLoader does, but takes 1e-3 as a number, and refuses more.

    A key given twice or that is no scalar; aliases that repeat each other until a few lines stand
    for more than a computer holds.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a name, not a list or mapping", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def get_single_node(self) -> yaml.Node | None:
        """Composes the document, and counts what it stands for."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count(node, {}, ())
        return node


def _count(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Counts the nodes that one stands for, each alias anew."""
    if id(node) in above:
        raise yaml.composer.ComposerError(None, None, "an alias stands in itself", node.start_mark)
    if id(node) not in known:
        inside = (*above, id(node))
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        flat = [n for part in parts for n in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_count(part, known, inside) for part in flat)
    if known[id(node)] > _MOST:
        raise yaml.composer.ComposerError(
            None, None, f"stands for more than {_MOST:,} values", node.start_mark
        )
    return known[id(node)]


class _Dumper(yaml.SafeDumper):
    """Writes YAML that _Loader reads back: it quotes the text "1e-3"."""


# YAML 1.1, which PyYAML speaks, reads 1e-3 as text: it wants 1.0e-3
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def one_line(value: Any) -> str:
    """Writes plain data as YAML in one line.

    Example:
        >>> one_line({"macs": 0.5}), one_line("half"), one_line([1, None])
        ('{macs: 0.5}', 'half', '[1, null]')
    """
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True
    )
    return text.removesuffix("...\n").strip()


def dump(data: Any) -> str:
    r"""Writes plain data as YAML that `parse` reads back.

    Example:
        >>> dump({"about": "1e-3", "keep": ["to_rgb"]})
        "about: '1e-3'\nkeep: [to_rgb]\n"
    """
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100))


def parse(text: str, origin: str) -> Any:
    """Parses YAML.

    Raises: RecipeError that shows the line and marks the column.

    Example:
        >>> parse("passes: [fuse_batch_norm]", "a.yaml")
        {'passes': ['fuse_batch_norm']}
    """
    if len(text) > LONGEST:
        raise RecipeError(
            f"{origin}: has {len(text):,} characters; a recipe has some thousand, so this is none"
        )
    with reading_recipe(origin), _readable(text, origin):
        data = yaml.load(text, _Loader)  # a SafeLoader: it builds plain data only
    _check_scalars(data, origin)
    return data


def _check_scalars(data: Any, origin: str) -> None:
    """Refuses scalars that YAML has and that nothing after it can hold or print."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            _check_scalars(key, origin)
            _check_scalars(value, origin)
    elif isinstance(data, list | tuple | set):
        for value in data:
            _check_scalars(value, origin)
    elif isinstance(data, int) and data.bit_length() > _BITS:
        raise RecipeError(
            f"{origin}: has an integer of {data.bit_length()} bits, which counts nothing"
        )
    elif isinstance(data, str) and any("\ud800" <= character <= "\udfff" for character in data):
        raise RecipeError(
            f"{origin}: has half a character, {printable(data[:40])!r}; UTF-8 has none"
        )


@contextmanager
def _readable(text: str, origin: str) -> Iterator[None]:
    """Shows the line of what PyYAML does not read; the guard around it has the rest."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or str(error)
        if mark is None:
            raise RecipeError(f"{origin}: does not parse as YAML: {problem}") from error
        lines = text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        raise RecipeError(
            f"{origin}, line {mark.line + 1}: does not parse as YAML: {problem}\n"
            f"{_pointed(line, mark.column)}"
        ) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: does not parse as YAML: {printable(error)}") from error
    except RecursionError as error:
        raise RecipeError(f"{origin}: is nested too deeply for a recipe") from error


def _pointed(line: str, column: int) -> str:
    """Shows the part of a line around a column, with a mark under it."""
    start = max(0, column - _SHOWN // 2)
    part = "".join(c if c.isprintable() else " " for c in line[start : start + _SHOWN])
    return f"  {part}\n  {' ' * (column - start)}^"
