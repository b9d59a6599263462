"""What a program will cost at other widths, in closed form: many configurations at once."""

from gfx.costs.symbolic.pricing import Pricing

__all__ = ["Pricing"]
