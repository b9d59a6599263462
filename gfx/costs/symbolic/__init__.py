"""Computes a program's cost at other widths in closed form, for many configurations at once."""

from gfx.costs.symbolic.pricing import Pricing

__all__ = ["Pricing"]
