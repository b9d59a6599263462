"""Measures what a change of one place does to the output, from cached activations."""

__all__: list[str] = []
