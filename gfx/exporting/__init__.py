"""Writes programs for other runtimes, and shows that they compute the same there."""

__all__: list[str] = []
