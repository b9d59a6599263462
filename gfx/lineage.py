"""Remembers which activation of the original program a node of the rewritten one stands for."""

__all__: list[str] = []
