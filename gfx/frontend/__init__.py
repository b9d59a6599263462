"""Turns any generator into a Program."""

from gfx.frontend.driver import trace

__all__ = ["trace"]
