"""Reads data sets: folders of pictures by number, their layouts, tables of attributes."""

from gfx.io.data.datasets.picture_set import PictureSet

__all__ = ["PictureSet"]
