"""Writes one convolution as several cheaper ones."""

__all__: list[str] = []
