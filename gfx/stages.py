"""Finds the stages of a generator from its graph: down, body and up."""

__all__: list[str] = []
