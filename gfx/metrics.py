"""Measures how far the output of a smaller generator is from that of the original."""

__all__: list[str] = []
