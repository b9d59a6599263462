"""Empty names in the place of torchvision, so that packages which only import it can be imported.

Nothing of torchvision is here: every attribute of every module is a class that refuses to be made.
A model that would compute with torchvision fails aloud, and is skipped with that reason.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["stand_in_for_torchvision"]

_NAME = "torchvision"


def _nothing(owner: Any, name: str) -> Any:
    """Makes an attribute that is a class which refuses to be made."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(self: object, *args: Any, **kwargs: Any) -> None:
        raise ImportError(f"{_NAME} is not installed, and {name} of it is needed")

    kind = _Names(name, (), {"__init__": refuse})
    setattr(owner, name, kind)  # the same class each time: isinstance and bases rely on it
    return kind


class _Names(type):
    """A class whose attributes are such classes, as the members of an enumeration may be."""

    __getattr__ = _nothing


class _Missing(ModuleType):
    """A module whose attributes are such classes."""

    __path__: Sequence[str] = ()
    __getattr__ = _nothing


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] != _NAME:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Missing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leaves the module empty."""


@contextmanager
def stand_in_for_torchvision() -> Iterator[None]:
    """Lets `import torchvision` succeed where it is not installed; leaves no trace of it."""
    if importlib.util.find_spec(_NAME) is not None:
        yield
        return
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n, m in sys.modules.items() if isinstance(m, _Missing)]:
            del sys.modules[name]
