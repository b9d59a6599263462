"""Puts the recipes into the wheel as `gfx.recipes`; all else is in pyproject.toml.

A mapping of packages there would do it too, but then an editable installation finds gfx by a hook
that comes after the current folder: from the folder above a clone named gfx, `import gfx` would
take the clone itself for an empty namespace package.
"""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = Path("recipes")


class BuildWithRecipes(build_py):
    """Copies the recipes to gfx/recipes of what is built."""

    def run(self) -> None:
        """Builds the packages, then adds the recipes."""
        super().run()
        if self.editable_mode:
            return  # gfx reads them from where they are
        folder = Path(self.build_lib) / "gfx" / "recipes"
        for source in RECIPES.rglob("*.yaml"):
            target = folder / source.relative_to(RECIPES)
            target.parent.mkdir(parents=True, exist_ok=True)
            copyfile(source, target)


setup(cmdclass={"build_py": BuildWithRecipes})
