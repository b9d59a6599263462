"""Chooses what to do to each layer so that a budget is met with the least damage."""

__all__: list[str] = []
