"""Converts recipe text (YAML) to plain data and back; errors show the faulty line."""

import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from gfx.errors import RecipeError

__all__ = ["dump", "parse"]


class _Loader(yaml.SafeLoader):
    """Reads YAML as SafeLoader does, but refuses a key given twice and takes 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes YAML that _Loader reads back: it quotes the text "1e-3"."""


# YAML 1.1, which PyYAML speaks, reads 1e-3 as text: it wants 1.0e-3
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


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
    with _readable(text, origin):
        return yaml.load(text, _Loader)  # a SafeLoader: it builds plain data only


@contextmanager
def _readable(text: str, origin: str) -> Iterator[None]:
    """Turns what PyYAML raises into a RecipeError."""
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
            f"  {line}\n  {' ' * mark.column}^"
        ) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: does not parse as YAML: {error}") from error
    except RecursionError as error:
        raise RecipeError(f"{origin}: is nested too deeply for a recipe") from error
