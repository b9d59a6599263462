"""What a program will cost at other widths, in closed form: many configurations at once."""

from gfx.pricing.closed import Pricing

__all__ = ["Pricing"]
