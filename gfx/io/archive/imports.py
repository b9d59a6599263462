"""Imports the user's own objects by name: `package.module:attribute`."""

import importlib
import sys
from pathlib import Path
from typing import Any

from gfx.errors import InputError

__all__ = ["imported"]


def imported(name: str, option: str, wanted: str) -> Any:
    """Imports an object; the current folder is searched first, as `python -m` does.

    Args:
        name: such as `package.module:function`.
        option: the option that names it, for messages.
        wanted: what the part after the colon is, for messages.

    Raises: InputError if the name has another form; and whatever the import raises.

    Example:
        >>> imported("math:pi", "--metric", "function")
        3.141592653589793
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise InputError(f"{option} {name!r} is not of the form package.module:{wanted}")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = importlib.import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
