"""Tells for each layer what shrinking it would save, and what it would do to the output."""

__all__: list[str] = []
