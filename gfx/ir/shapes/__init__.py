"""Infers shapes and dtypes on every node, without the arithmetic."""
