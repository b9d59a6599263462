"""Losses of the papers, each a small module."""
