"""Finds the recipes that ship with gfx; nothing of weight is imported for it."""

from pathlib import Path

__all__ = ["recipes_folder", "shipped", "shipped_systems"]


def shipped() -> tuple[str, ...]:
    """Returns the names of the recipes that ship with gfx.

    Example:
        >>> "half" in shipped()
        True
    """
    return tuple(sorted(path.stem for path in recipes_folder().glob("*.yaml")))


def shipped_systems() -> tuple[str, ...]:
    """Returns the names of the systems, recipes with stages, that ship with gfx.

    Example:
        >>> "gan-compression-distill" in shipped_systems()
        True
    """
    return tuple(sorted(path.stem for path in (recipes_folder() / "systems").glob("*.yaml")))


def recipes_folder() -> Path:
    """Returns where the recipes are: inside gfx once installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"
