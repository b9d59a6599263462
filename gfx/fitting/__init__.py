"""Solves for the weights with which a layer reproduces given activations."""

__all__: list[str] = []
