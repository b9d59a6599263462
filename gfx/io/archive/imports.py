"""Imports the user's own objects by name: `package.module:attribute` or `file.py:attribute`."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from gfx.errors import InputError, did_you_mean

__all__ = ["imported", "search_current_folder"]


def imported(name: str, option: str, wanted: str) -> Any:
    """Imports an object; the current folder is searched first, as `python -m` does.

    Args:
        name: such as `package.module:function`, or `folder/file.py:function`.
        option: the option that names it, for messages.
        wanted: what the part after the colon is, for messages.

    Raises: InputError if the name has another form, or there is no such module or attribute; and
        whatever the import raises.

    Example:
        >>> imported("math:pi", "--metric", "function")
        3.141592653589793
    """
    module_name, _, attribute = name.rpartition(":")  # C:\\net.py:Net has two
    if not module_name or not attribute:
        near = _near_form(name, wanted)
        raise InputError(
            f"{option} {name!r} is not of the form package.module:{wanted} or "
            f"file.py:{wanted}{near}"
        )
    search_current_folder()
    found: Any = (
        _from_file(Path(module_name), option)
        if module_name.endswith(".py")
        else _from_name(module_name, option)
    )
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(found).items() if callable(value) and key[0] != "_"]
            raise InputError(
                f"{option} {name}: {module_name} has no {attribute!r}"
                f"{did_you_mean(part, known, _choices(known))}"
            )
        found = getattr(found, part)
    return found


def search_current_folder() -> None:
    """Puts the current folder in front of where modules are looked for, if it is not there."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def _from_name(name: str, option: str) -> ModuleType:
    importlib.invalidate_caches()  # the file may be as new as this command
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # what the module itself imports
        raise InputError(
            f"{option} {name}: there is no module {error.name!r} in {Path.cwd()} or among what is "
            f"installed{did_you_mean(name, _modules_here(name), '')}"
        ) from error


def _from_file(path: Path, option: str) -> ModuleType:
    """Imports a file under the name that it has in its package, so that its own imports work."""
    if not path.is_file():
        near = [str(p) for p in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        raise InputError(
            f"{option} {path}: there is no file {path}{did_you_mean(str(path), near, '')}"
        )
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    name = ".".join(parts)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    loaded = sys.modules.get(name)
    if loaded is None or getattr(loaded, "__file__", None) != str(path):
        found = importlib.util.find_spec(name) if len(parts) > 1 or loaded is None else None
        if found is not None and found.origin == str(path):
            return importlib.import_module(name)
        return _from_location(name if loaded is None else f"_gfx_{name}", path)
    return loaded


def _from_location(name: str, path: Path) -> ModuleType:
    """Imports a file whose name another module has taken."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _modules_here(name: str) -> Iterator[str]:
    """Lists modules beside the one that was named, from the current folder."""
    *outer, _ = name.split(".")
    folder = Path.cwd().joinpath(*outer)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield ".".join([*outer, path.stem])


def _near_form(name: str, wanted: str) -> str:
    """Writes what a name without a colon may have meant."""
    if name.endswith(".py") or "/" in name:
        return f"; did you mean {name.removesuffix('.py')}.py:{wanted.capitalize()}?"
    outer, dot, last = name.rpartition(".")
    return f"; did you mean {outer}:{last}?" if dot else ""


def _choices(known: list[str]) -> str:
    return f"it has {', '.join(known[:8])}" if known else "it has nothing that can be called"
