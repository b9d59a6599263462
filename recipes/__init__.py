"""Recipes that ship with gfx: data only, read through importlib.resources as `gfx.recipes`."""
