"""Draws data that `Report.from_dict` accepts: every field of its type, present or left out."""

import dataclasses
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import hypothesis.strategies as st

from gfx.pipeline.report import Report

__all__ = ["report_data"]

_WORDS = ["", "conv", "a.b", "float32", "a\nb", "層.重み", "{}$x", "w" * 300]
_UNFIT = ["\x1b[31mred\0", "half \ud83d", "\u202e"]  # for a screen
TEXTS = st.sampled_from([*_WORDS, *_UNFIT])
INTEGERS = st.sampled_from([0, 1, -1, 3, 2**31, -(2**40), 2**63, 10**60])
NUMBERS = st.sampled_from(
    [0.0, 1.0, -0.5, 1e-300, 1e308, float("inf"), float("-inf"), float("nan")]
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INTEGERS | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def report_data() -> st.SearchStrategy[dict[str, Any]]:
    """Draws reports as JSON holds them; the plain case has a source alone."""
    return drawn(Report)


def drawn(kind: Any) -> st.SearchStrategy[Any]:
    """Draws plain data that is read as a value of a type."""
    origin, args = get_origin(kind), get_args(kind)
    simple = {str: TEXTS, int: INTEGERS, float: NUMBERS | INTEGERS, bool: st.booleans(), Any: PLAIN}
    if kind in simple:
        return simple[kind]
    if kind is type(None):
        return st.none()
    if origin in (Union, types.UnionType):
        return st.one_of(*sorted(map(drawn, args), key=lambda each: each is not st.none()))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(drawn(args[0]), max_size=2)
    if origin is tuple:
        return st.tuples(*map(drawn, args)).map(list)
    if origin is dict:
        return st.dictionaries(drawn(args[0]), drawn(args[1]), max_size=3)
    assert dataclasses.is_dataclass(kind), kind
    hints = get_type_hints(kind)
    fields = {f.name: drawn(hints[f.name]) for f in dataclasses.fields(kind)}
    needed = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    return st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in needed},
        optional={name: fields[name] for name in fields if name not in needed},
    )
